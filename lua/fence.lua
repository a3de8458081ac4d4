#!lua flags=allow-oom
-- fence: shut a sale whose data cannot be trusted, or free it again. A fenced sale answers nothing but reads.
-- KEYS: the sale's seven.
-- ARGV[1] mark (unused); ARGV[2] packed {fenced, epoch}, fenced 1 or 0; epoch the one that is meant, 0 for any.
-- Returns {epoch, seq, now_ms, ...}; its words in the order of the checks:
--   'no_sale'
--   'overtaken'             it is in another epoch
--   'unchanged'
--   'changed'
--@include sale.lua

if not exists then return answer('no_sale') end
if arg.epoch > 0 and arg.epoch ~= epoch then return answer('overtaken') end
if sale.fenced == arg.fenced then return answer('unchanged') end
redis.call('HSET', SALE, 'fenced', arg.fenced)
return answer('changed')
