#!lua
-- adjust: add or take stock of a product, never below what is held and sold, once for each command.
-- KEYS: the sale's seven.
-- ARGV[1] mark; ARGV[2] packed {product, delta, reason, command}.
-- Returns {epoch, seq, now_ms, ...}; its words in the order of the checks:
--   'no_sale'
--   'fenced'
--   'unknown_product'
--   'replayed', seq         done before, as the event of that number
--   'below_committed', wanted_total, held, sold
--   'adjusted', seq
--@include sale.lua
--@include book.lua
--@include file.lua

if not exists then return answer('no_sale') end
if fenced then return answer('fenced') end
local units = whole_product(arg.product)
if not units then return answer('unknown_product') end
local done = redis.call('HGET', COMMANDS, arg.command)
if done then return answer('replayed', tonumber(done)) end
local total = units.total + arg.delta
if total < units.held + units.sold then return answer('below_committed', total, units.held, units.sold) end

units.total, units.available, units.changed = total, units.available + arg.delta, whole
emit('adjusted', {'product', arg.product, 'delta', arg.delta, 'reason', arg.reason, 'command', arg.command})
command_writes = {arg.command, seq + 1}
commit()
return answer('adjusted', seq)
