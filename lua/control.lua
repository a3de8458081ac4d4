#!lua flags=allow-oom
-- control: people pause, resume or end a sale. An ended one stays ended.
-- KEYS: the sale's seven.
-- ARGV[1] mark; ARGV[2] packed {state}: 'paused', 'open' or 'ended'.
-- Returns {epoch, seq, now_ms, ...}; its words in the order of the checks:
--   'no_sale'
--   'fenced'
--   'unchanged'
--   'ended'                 it has ended and cannot be paused or resumed
--   'changed'
--@include sale.lua
--@include book.lua

if not exists then return answer('no_sale') end
if fenced then return answer('fenced') end
if sale.state == arg.state then return answer('unchanged') end
if sale.state == 'ended' then return answer('ended') end

emit('state', {'state', arg.state})
commit()
redis.call('HSET', SALE, 'state', arg.state)
return answer('changed')
