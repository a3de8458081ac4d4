#!lua flags=no-writes
-- peek: holds as they are, by Redis's own clock.
-- KEYS: the sale's seven.
-- ARGV[1] mark (unused); ARGV[2] packed {tokens}.
-- Returns {epoch, seq, now_ms, ...}; its words in the order of the checks:
--   'no_sale'
--   'found', record, ...    one a token in their order, '' for a hold that is not there
--@include sale.lua

if not exists then return answer('no_sale') end
local found = redis.call('HMGET', HOLDS, unpack(arg.tokens))
for i, record in ipairs(found) do found[i] = record or '' end
return answer('found', unpack(found))
