#!lua flags=allow-oom
-- trim: drop events that Postgres has, up to a stretch that is kept behind the cursor. Only where the cursor's own entry is found with its
-- mark: a Redis that lost data may hold other events under the same numbers, which nobody has read.
-- KEYS: the sale's seven.
-- ARGV[1] mark (unused); ARGV[2] packed {cursor, cursor_mark, keep_from}, cursor and keep_from as <epoch>-<seq>.
-- Returns {epoch, seq, now_ms, ...}; its words in the order of the checks:
--   'no_sale'
--   'astray'                the cursor's entry is not there, or is another
--   'trimmed', count
--@include sale.lua

if not exists then return answer('no_sale') end
local entry = redis.call('XRANGE', EVENTS, arg.cursor, arg.cursor)[1]
if not entry or entry[2][4] ~= arg.cursor_mark then return answer('astray') end
return answer('trimmed', redis.call('XTRIM', EVENTS, 'MINID', arg.keep_from))
