#!lua flags=allow-oom
-- mend: bring a product's counters back to what ledger and stream say. `by` are differences, so buyers may go on meanwhile; two repairs of one
-- finding cannot both happen, for each names the number of repairs that it has seen.
-- KEYS: the sale's seven.
-- ARGV[1] mark (unused); ARGV[2] packed {repairs, counters, customers}, counters as {{product, field, by}, ...}, customers as {{field, value seen, value}, ...}
--   where '' stands for none.
-- Returns {epoch, seq, now_ms, ...}; its words in the order of the checks:
--   'no_sale'
--   'overtaken', repairs    somebody mended meanwhile: compare again
--   'mended', repairs
--@include sale.lua

if not exists then return answer('no_sale') end
local repairs = tonumber(redis.call('HGET', SALE, 'repairs') or 0)
if repairs ~= arg.repairs then return answer('overtaken', repairs) end
redis.call('HSET', SALE, 'repairs', repairs + 1)
for _, change in ipairs(arg.counters) do
  local field = change[1] .. ':' .. change[2]
  redis.call('HSET', STOCK, field, (tonumber(redis.call('HGET', STOCK, field)) or 0) + change[3])
end
for _, change in ipairs(arg.customers) do
  if (redis.call('HGET', CUSTOMERS, change[1]) or '') == change[2] then
    if change[3] == '' then redis.call('HDEL', CUSTOMERS, change[1]) else redis.call('HSET', CUSTOMERS, change[1], change[3]) end
  end
end
return answer('mended', repairs + 1)
