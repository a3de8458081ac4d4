-- What a sale file, an adjustment or a rebuild changes of a product: all of it. What is read most comes first, for a small hash is searched
-- from its beginning.
local whole = {'available', 'held', 'limit', 'price', 'rev', 'sold', 'currency', 'total', 'loaded', 'name', 'compare_at'}

local function whole_product(id)
  local units = product(id)
  if units and not units.total then
    local values = redis.call('HMGET', STOCK, id .. ':total', id .. ':loaded', id .. ':name', id .. ':compare_at')
    units.total, units.loaded = tonumber(values[1]) or 0, tonumber(values[2]) or 0
    units.name, units.compare_at = values[3], tonumber(values[4]) or 0
  end
  return units
end
