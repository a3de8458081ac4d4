#!lua flags=allow-oom
-- cancel: an order ends without its money, which the caller has made sure of at the payment provider. Its units come back: those of a hold
-- in payment, and those of a sold one whose authorisation was voided or lapsed.
-- KEYS: the sale's seven, then the deadlines of the hold's products.
-- ARGV[1] mark; ARGV[2] packed {products, token, ending}, ending 'released' (asked for) or 'expired' (ran out).
-- Returns {epoch, seq, now_ms, ...}; its words in the order of the checks:
--   'no_sale'
--   'fenced'
--   'no_hold'
--   'unchanged', record     it had ended before
--   'returned', record      it was sold
--   'released', record
--   'expired', record
--@include sale.lua
--@include book.lua

if not exists then return answer('no_sale') end
if fenced then return answer('fenced') end
local record = find(arg.token)
if not record then return answer('no_hold') end
local status = record[STATUS]
if not counted[status] then return answer('unchanged', packed[arg.token]) end

local happened = status == 'sold' and 'returned' or arg.ending
become(arg.token, record, arg.ending)
emit_holds(happened, {arg.token})
commit()
return answer(happened, packed[arg.token])
