#!lua
-- load: put a sale file on sale, or bring a loaded one up to date. A product's stock is compared with the last file's, and the difference is
-- what changes. Products that the file does not name stay as they are.
-- KEYS: the sale's seven.
-- ARGV[1] mark; ARGV[2] packed {create, name, starts_ms, ends_ms, hold_ttl_ms, payment_ttl_ms, items}; ends_ms 0 = until ended; create 1 where
--   the sale may be new, else 0; an item as {id, name, price, compare_at, currency, stock, limit}, compare_at and limit 0 = none.
-- Returns {epoch, seq, now_ms, ...}; its words in the order of the checks:
--   'no_sale'               Redis has lost it
--   'fenced'
--   'below_committed', product, wanted_total, held, sold
--   'unchanged'
--   'loaded'
--@include sale.lua
--@include book.lua
--@include file.lua

if not exists and arg.create == 0 then return answer('no_sale') end
if fenced then return answer('fenced') end

local changes, settings = {}, {}
for _, field in ipairs({'name', 'starts_ms', 'ends_ms', 'hold_ttl_ms', 'payment_ttl_ms'}) do
  settings[#settings + 1] = field
  settings[#settings + 1] = arg[field]
end
local before = redis.call('HMGET', SALE, 'name', 'starts_ms', 'ends_ms', 'hold_ttl_ms', 'payment_ttl_ms')
local changed = not exists
for i, value in ipairs(before) do changed = changed or value ~= tostring(settings[2 * i]) end

for _, item in ipairs(arg.items) do
  local units = whole_product(item.id)
  if not units then
    units = {total = 0, available = 0, held = 0, sold = 0, rev = 0, loaded = 0}
    stock[item.id] = units
  end
  local delta = item.stock - units.loaded
  if units.total + delta < units.held + units.sold then
    return answer('below_committed', item.id, units.total + delta, units.held, units.sold)
  end
  local relabelled = false
  for _, field in ipairs({'name', 'price', 'compare_at', 'currency'}) do
    relabelled = relabelled or units[field] ~= item[field]
    units[field] = item[field]
  end
  if relabelled then units.rev = units.rev + 1 end
  if relabelled or delta ~= 0 or units.limit ~= item.limit then
    units.limit, units.loaded, units.changed = item.limit, item.stock, whole
    units.total, units.available = units.total + delta, units.available + delta
    changes[#changes + 1] = {item.id, delta, item.name, item.price, item.compare_at, item.currency, item.limit, item.stock, units.rev}
  end
end
if not changed and #changes == 0 then return answer('unchanged') end

if not exists then
  epoch, seq = 1, 0
  for _, value in ipairs({'epoch', 1, 'state', 'open', 'fenced', 0}) do settings[#settings + 1] = value end
end
emit('loaded', {
  'sale', cmsgpack.pack({arg.name, arg.starts_ms, arg.ends_ms, arg.hold_ttl_ms, arg.payment_ttl_ms}),
  'products', cmsgpack.pack(changes),
})
commit()
redis.call('HSET', SALE, unpack(settings))
return answer('loaded')
