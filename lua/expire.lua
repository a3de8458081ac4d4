#!lua flags=allow-oom
-- expire: end overdue holds, a bounded number in one call so that buyers never wait behind the sweep.
-- KEYS: the sale's seven, then the deadlines of the products to sweep.
-- ARGV[1] mark; ARGV[2] packed {products, limit}.
-- Returns {epoch, seq, now_ms, ...}; its words in the order of the checks:
--   'no_sale'
--   'fenced'
--   'expired', count, more   more is 1 where the limit was reached, else 0
--@include sale.lua
--@include book.lua

if not exists then return answer('no_sale') end
if fenced then return answer('fenced') end
local expired, left = {}, arg.limit
for _, id in ipairs(arg.products) do
  if left == 0 then break end
  for _, token in ipairs(redis.call('ZRANGEBYSCORE', deadlines[id], '-inf', now, 'LIMIT', 0, left)) do
    left = left - 1
    local record = find(token)
    if record and overdue(record) then
      become(token, record, 'expired')
      expired[#expired + 1] = token
    elseif not record or record[STATUS] ~= 'held' then
      unschedule(id, token)
    end
  end
end
emit_holds('expired', expired)
commit()
return answer('expired', #expired, left == 0 and 1 or 0)
