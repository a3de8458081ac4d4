#!lua
-- reset: the first step of a rebuild. What Redis has of the sale goes, and the sale begins again, fenced, under a new epoch with its stock and
-- no holds.
-- KEYS: the sale's seven, then the deadlines of all its products.
-- ARGV[1] mark; ARGV[2] packed {products, epoch, settings, items}, settings as {field, value, ...}, an item as {id, name, price, compare_at,
--   currency, limit, loaded, rev, total}.
-- Returns {epoch, seq, now_ms, ...}; its words in the order of the checks:
--   'overtaken'             a later rebuild has begun
--   'changed'
--@include sale.lua
--@include book.lua
--@include file.lua

if epoch >= arg.epoch then return answer('overtaken') end

redis.call('UNLINK', unpack(KEYS))
redis.call('HSET', SALE, 'epoch', arg.epoch, 'seq', 0, 'mark', mark, 'fenced', 1, unpack(arg.settings))
epoch, seq = arg.epoch, 0
for _, item in ipairs(arg.items) do
  item.available, item.held, item.sold, item.changed = item.total, 0, 0, whole
  stock[item.id] = item
end
commit()
return answer('changed')
