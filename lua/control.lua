#!lua flags=allow-oom
-- control: people pause, resume or end a sale. An ended one stays ended, unless it was withdrawn and is loaded again.
-- KEYS: the sale's seven.
-- ARGV[1] mark; ARGV[2] packed {state, reopen}: 'paused', 'open' or 'ended'; reopen 1 where an ended one may be opened, else 0.
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
if sale.state == 'ended' and arg.reopen ~= 1 then return answer('ended') end

emit('state', {'state', arg.state})
commit()
redis.call('HSET', SALE, 'state', arg.state)
return answer('changed')
