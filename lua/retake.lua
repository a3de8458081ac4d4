#!lua
-- retake: late money. The hold expired, its authorisation came after all: take the same units again, at the price that was agreed, if the
-- sale is still on, the customer may, and they are there. Either all lines or none.
-- KEYS: the sale's seven.
-- ARGV[1] mark; ARGV[2] packed {token}.
-- Returns {epoch, seq, now_ms, ...}; its words in the order of the checks:
--   'no_sale'
--   'fenced'
--   'no_hold'
--   'replayed', record      sold before
--   'not_expired', record   released by its customer, or alive
--   'paused'
--   'ended'
--   'limit_exceeded', product
--   'sold_out', product
--   'retaken', record
--@include sale.lua
--@include book.lua

if not exists then return answer('no_sale') end
if fenced then return answer('fenced') end
local record = find(arg.token)
if not record then return answer('no_hold') end
if record[STATUS] == 'sold' then return answer('replayed', packed[arg.token]) end
if record[STATUS] ~= 'expired' then return answer('not_expired', packed[arg.token]) end
if sale.state == 'paused' then return answer('paused') end
if sale.state == 'ended' or (sale.ends_ms > 0 and now >= sale.ends_ms) then return answer('ended') end
for _, line in ipairs(record[LINES]) do
  local units, quantity = product(line[PRODUCT]), customer(line[PRODUCT] .. ':' .. record[CUSTOMER])
  if units.limit > 0 and quantity + line[QTY] > units.limit then return answer('limit_exceeded', line[PRODUCT]) end
end
for _, line in ipairs(record[LINES]) do
  if product(line[PRODUCT]).available < line[QTY] then return answer('sold_out', line[PRODUCT]) end
end

become(arg.token, record, 'sold')
emit_holds('retaken', {arg.token})
commit()
return answer('retaken', packed[arg.token])
