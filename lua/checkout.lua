#!lua
-- checkout: a held hold enters payment and gets its one payment period.
-- KEYS: the sale's seven, then the deadlines of the hold's products.
-- ARGV[1] mark; ARGV[2] packed {products, token, checkout}, checkout the id of the request that wants to pay.
-- Returns {epoch, seq, now_ms, ...}; its words in the order of the checks:
--   'no_sale'
--   'fenced'
--   'no_hold'
--   'replayed', record      this very request checked it out before
--   'used', record          another request did, or it is sold
--   'released', record
--   'expired', record
--   'paying', record
--@include sale.lua
--@include book.lua

if not exists then return answer('no_sale') end
if fenced then return answer('fenced') end
local record = find(arg.token)
if not record then return answer('no_hold') end
local status = record[STATUS]
if record[CHECKOUT] == arg.checkout then return answer('replayed', packed[arg.token]) end
if record[CHECKOUT] or status == 'sold' then return answer('used', packed[arg.token]) end
if status == 'released' then return answer('released', packed[arg.token]) end
if status == 'expired' or overdue(record) then return answer('expired', packed[arg.token]) end

record[PAY_BY], record[CHECKOUT] = now + sale.payment_ttl_ms, arg.checkout
become(arg.token, record, 'paying')
emit_holds('paying', {arg.token})
commit()
return answer('paying', packed[arg.token])
