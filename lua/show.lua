#!lua flags=no-writes
-- show: the sale and its stock, or some products of it, at one moment.
-- KEYS: the sale's seven.
-- ARGV[1] mark (unused); ARGV[2] packed {only}, only a list of product ids, or nil for all.
-- Returns {epoch, seq, now_ms, ...}; its words in the order of the checks:
--   'no_sale'
--   'shown', sale, stock    sale as field, value, ...; stock as P:field, value, ...
--@include sale.lua

if not exists then return answer('no_sale') end
if not arg.only then return answer('shown', redis.call('HGETALL', SALE), redis.call('HGETALL', STOCK)) end
local fields = {}
for _, id in ipairs(arg.only) do
  for _, field in ipairs({'total', 'available', 'held', 'sold', 'limit', 'price', 'compare_at', 'currency', 'name', 'rev'}) do
    fields[#fields + 1] = id .. ':' .. field
  end
end
local stock = {}
if #fields > 0 then
  for i, value in ipairs(redis.call('HMGET', STOCK, unpack(fields))) do
    if value then
      stock[#stock + 1] = fields[i]
      stock[#stock + 1] = value
    end
  end
end
return answer('shown', redis.call('HGETALL', SALE), stock)
