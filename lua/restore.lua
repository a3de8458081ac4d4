#!lua
-- restore: the next step of a rebuild, many times. Holds that Postgres knows come back as they were: sold ones, then those in payment, then those
-- held, each while it fits. One that does not fit expires, and the event says so. Holds that Postgres knows only by their order (`known` 0) get
-- the events again that were lost.
-- KEYS: the sale's seven, then the deadlines of the holds' products.
-- ARGV[1] mark; ARGV[2] packed {products, epoch, known, holds, commands}, holds as {{token, record}, ...}, commands as {id, ...} that happened before.
-- Returns {epoch, seq, now_ms, ...}; its words in the order of the checks:
--   'no_sale'
--   'overtaken'             another rebuild has begun
--   'restored', expired     how many did not fit
--@include sale.lua
--@include book.lua

if not exists then return answer('no_sale') end
if epoch ~= arg.epoch then return answer('overtaken') end

local function fits(record)
  for _, line in ipairs(record[LINES]) do
    if product(line[PRODUCT]).available < line[QTY] then return false end
  end
  return true
end

local expired, unknown = {}, {}  -- the unknown as they were: a drain may stop before the event that ends them
for _, hold in ipairs(arg.holds) do
  local token, record = hold[1], hold[2]
  local status = record[STATUS]
  if arg.known == 0 then
    unknown[#unknown + 1] = token
    unknown[#unknown + 1] = cmsgpack.pack(record)
  end
  if live[status] and not fits(record) then
    status = 'expired'
    expired[#expired + 1] = token
  end
  record[STATUS] = false
  become(token, record, status)
end
if #unknown > 0 then
  emit('held', unknown)
  emit('paying', unknown)
end
emit_holds('expired', expired)
for _, id in ipairs(arg.commands) do
  command_writes[#command_writes + 1] = id
  command_writes[#command_writes + 1] = 0
end
commit()
return answer('restored', #expired)
