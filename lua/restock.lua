#!lua flags=allow-oom
-- restock: units of a sold hold come back for sale with a refund, once for each refund. The hold stays sold.
-- KEYS: the sale's seven.
-- ARGV[1] mark; ARGV[2] packed {token, command, lines}, command the refund's id, lines as {{product, qty}, ...}.
-- Returns {epoch, seq, now_ms, ...}; its words in the order of the checks:
--   'no_sale'
--   'fenced'
--   'no_hold'
--   'replayed', seq         done before, as the event of that number
--   'not_sold', record
--   'too_many', product     more than the hold still stands for
--   'restocked', seq
--@include sale.lua
--@include book.lua

if not exists then return answer('no_sale') end
if fenced then return answer('fenced') end
local record = find(arg.token)
if not record then return answer('no_hold') end
local done = redis.call('HGET', COMMANDS, arg.command)
if done then return answer('replayed', tonumber(done)) end
if record[STATUS] ~= 'sold' then return answer('not_sold', packed[arg.token]) end

local function give_back(line, qty)
  local units, field = product(line[PRODUCT]), line[PRODUCT] .. ':' .. record[CUSTOMER]
  local quantity, tokens = customer(field)
  units.sold, units.available, units.changed = units.sold - qty, units.available + qty, counters
  change_customer(field, entry(quantity - qty, tokens))
  line[RETURNED] = (line[RETURNED] or 0) + qty
end

for _, back in ipairs(arg.lines) do
  local found = false
  for _, line in ipairs(record[LINES]) do
    if line[PRODUCT] == back[PRODUCT] and back[QTY] <= outstanding(line) then
      give_back(line, back[QTY])
      found = true
    end
  end
  if not found then return answer('too_many', back[PRODUCT]) end
end

keep(arg.token, record)
emit('restocked', {'refund', arg.command, 'lines', cmsgpack.pack(arg.lines), arg.token, packed[arg.token]})
command_writes = {arg.command, seq + 1}
commit()
return answer('restocked', seq)
