#!lua flags=allow-oom
-- release: a customer gives a held hold back.
-- KEYS: the sale's seven, then the deadlines of the hold's products.
-- ARGV[1] mark; ARGV[2] packed {products, token}.
-- Returns {epoch, seq, now_ms, ...}; its words in the order of the checks:
--   'no_sale'
--   'fenced'
--   'no_hold'
--   'unchanged', record     released or expired before
--   'in_payment', record
--   'used', record          sold
--   'expired', record       its deadline had passed: it ends as expired
--   'released', record
--@include sale.lua
--@include book.lua

if not exists then return answer('no_sale') end
if fenced then return answer('fenced') end
local record = find(arg.token)
if not record then return answer('no_hold') end
local status = record[STATUS]
if status == 'released' or status == 'expired' then return answer('unchanged', packed[arg.token]) end
if status == 'paying' then return answer('in_payment', packed[arg.token]) end
if status == 'sold' then return answer('used', packed[arg.token]) end

local ending = overdue(record) and 'expired' or 'released'
become(arg.token, record, ending)
emit_holds(ending, {arg.token})
commit()
return answer(ending, packed[arg.token])
