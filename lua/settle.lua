#!lua flags=allow-oom
-- settle: the money of a hold in payment is authorised, so its units are sold. A deadline that has passed does not matter as long as
-- nobody ended the hold. One that is still `held` was rolled back from payment by a Redis that lost data: its money is as real.
-- KEYS: the sale's seven, then the deadlines of the hold's products.
-- ARGV[1] mark; ARGV[2] packed {products, token}.
-- Returns {epoch, seq, now_ms, ...}; its words in the order of the checks:
--   'no_sale'
--   'fenced'
--   'no_hold'
--   'replayed', record      sold before
--   'released', record
--   'expired', record
--   'settled', record
--@include sale.lua
--@include book.lua

if not exists then return answer('no_sale') end
if fenced then return answer('fenced') end
local record = find(arg.token)
if not record then return answer('no_hold') end
if record[STATUS] == 'sold' then return answer('replayed', packed[arg.token]) end
if record[STATUS] == 'released' then return answer('released', packed[arg.token]) end
if record[STATUS] == 'expired' then return answer('expired', packed[arg.token]) end

become(arg.token, record, 'sold')
emit_holds('settled', {arg.token})
commit()
return answer('settled', packed[arg.token])
