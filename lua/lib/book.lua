-- The book of a sale: what the script finds is read into locals, changed there, and written by `commit` alone. So a script
-- decides everything before its first write, and nothing after that write can fail.

-- A hold's record, and a line of it. `pay_by` and `checkout` are there from check-out on, `returned` after a refund with restock.
local STATUS, CUSTOMER, CURRENCY, CREATED, EXPIRES, LINES, PAY_BY, CHECKOUT = 1, 2, 3, 4, 5, 6, 7, 8
local PRODUCT, QTY, PRICE, REV, RETURNED = 1, 2, 3, 4, 5

-- Which counter a hold's units stand in, by its status; a hold that is not there yet has them in `available`.
local counter = {held = 'held', paying = 'held', sold = 'sold', released = 'available', expired = 'available'}
local live = {held = true, paying = true}
local counted = {held = true, paying = true, sold = true}

-- Values that one command gets at most. Lua's stack has room for 8,000, and an error in the middle of the writes would tear the book. Even,
-- so that a field and its value stay together.
local at_once = 4000

local stock, records, packed, customers = {}, {}, {}, {}
local events, hold_writes, deadline_writes, command_writes = {}, {}, {}, {}
local payments_added, payments_dropped = {}, {}

local stock_fields = {'total', 'available', 'held', 'sold', 'limit', 'price', 'compare_at', 'currency', 'name', 'rev', 'loaded'}

-- A whole number as text, each converted once: that costs more than all else that a small hold needs.
local texts = {}
local function text(number)
  local found = texts[number]
  if not found then
    found = string.format('%.0f', number)
    texts[number] = found
  end
  return found
end

-- One product's stock as a table, or false where the sale has no such product.
local function product(id)
  local found = stock[id]
  if found == nil then
    local keys = {}
    for i, field in ipairs(stock_fields) do keys[i] = id .. ':' .. field end
    local values = redis.call('HMGET', STOCK, unpack(keys))
    found = values[1] and {} or false
    if found then
      for i, field in ipairs(stock_fields) do found[field] = values[i] end
      for _, field in ipairs({'total', 'available', 'held', 'sold', 'limit', 'price', 'compare_at', 'rev', 'loaded'}) do
        found[field] = tonumber(found[field]) or 0
      end
    end
    stock[id] = found
  end
  return found
end

-- A hold's record, or false.
local function find(token)
  local record = records[token]
  if record == nil then
    local bytes = packed[token]
    if bytes == nil then
      bytes = redis.call('HGET', HOLDS, token)
      packed[token] = bytes
    end
    record = bytes and cmsgpack.unpack(bytes)
    records[token] = record
  end
  return record
end

local function read_customer(field, value)
  local mine = {quantity = 0, tokens = ''}
  if value then
    local quantity, tokens = value:match('^(%-?%d+)(.*)$')
    mine.quantity, mine.tokens = tonumber(quantity), tokens
  end
  customers[field] = mine
  return mine
end

-- What a customer holds or bought of a product: {quantity, tokens}, tokens as ',token,token'.
local function customer(id, name)
  local field = id .. ':' .. name
  return customers[field] or read_customer(field, redis.call('HGET', CUSTOMERS, field))
end

-- Read what many requests need with one command a hash.
local function prefetch(tokens, fields)
  for first = 1, #tokens, at_once do
    local found = redis.call('HMGET', HOLDS, unpack(tokens, first, math.min(first + at_once - 1, #tokens)))
    for i, bytes in ipairs(found) do packed[tokens[first + i - 1]] = bytes end
  end
  for first = 1, #fields, at_once do
    local found = redis.call('HMGET', CUSTOMERS, unpack(fields, first, math.min(first + at_once - 1, #fields)))
    for i, value in ipairs(found) do read_customer(fields[first + i - 1], value) end
  end
end

local function without(tokens, token)
  local first, last = tokens:find(',' .. token, 1, true)
  return first and tokens:sub(1, first - 1) .. tokens:sub(last + 1) or tokens
end

-- An entry in a product's deadlines: `deadline` to set it, nil to drop it. Where the caller did not bring the product's key the
-- entry stays behind; whoever meets it sees that the hold is no longer held, and drops it.
local function schedule(id, token, deadline)
  if not deadlines[id] then return end
  local writes = deadline_writes[id]
  if not writes then
    writes = {added = {}, dropped = {}}
    deadline_writes[id] = writes
  end
  local list = deadline and writes.added or writes.dropped
  if deadline then list[#list + 1] = text(deadline) end
  list[#list + 1] = token
end

-- What becomes of a hold, packed; its record as a table where the caller has it.
local function keep(token, bytes, record)
  packed[token], records[token] = bytes, record
  local last = #hold_writes
  hold_writes[last + 1], hold_writes[last + 2] = token, bytes
end

-- Units that a line still stands for.
local function outstanding(line) return line[QTY] - (line[RETURNED] or 0) end

-- Every edge of a hold's life: the counters, the customer's quantity and the deadlines follow from the two statuses.
local function become(token, record, status)
  local was = record[STATUS]
  local from, to = counter[was] or 'available', counter[status]
  for _, line in ipairs(record[LINES]) do
    local id, qty = line[PRODUCT], outstanding(line)
    local units, mine = product(id), customer(id, record[CUSTOMER])
    if from ~= to then
      units[from] = units[from] - qty
      units[to] = units[to] + qty
      units.changed = true
    end
    if counted[status] and not counted[was] then mine.quantity = mine.quantity + qty end
    if counted[was] and not counted[status] then mine.quantity = mine.quantity - qty end
    if live[status] and not live[was] then mine.tokens = mine.tokens .. ',' .. token end
    if live[was] and not live[status] then mine.tokens = without(mine.tokens, token) end
    mine.changed = true
    if status == 'held' then schedule(id, token, record[EXPIRES]) end
    if was == 'held' then schedule(id, token, nil) end
  end
  if status == 'paying' then
    payments_added[#payments_added + 1] = record[PAY_BY]
    payments_added[#payments_added + 1] = token
  elseif was == 'paying' then
    payments_dropped[#payments_dropped + 1] = token
  end
  record[STATUS] = status
  keep(token, cmsgpack.pack(record), record)
end

local function overdue(record) return record[STATUS] == 'held' and record[EXPIRES] <= now end

-- Units that were given back without the hold's end (a refund with restock).
local function give_back(record, line, qty)
  local units, mine = product(line[PRODUCT]), customer(line[PRODUCT], record[CUSTOMER])
  units.sold, units.available, units.changed = units.sold - qty, units.available + qty, true
  mine.quantity, mine.changed = mine.quantity - qty, true
  line[RETURNED] = (line[RETURNED] or 0) + qty
end

-- What happened, for Postgres: a kind and pairs of field and value.
local function emit(kind, body) events[#events + 1] = {kind = kind, body = body} end

-- The same for holds: each token with its record as it is now.
local function emit_holds(kind, tokens)
  if #tokens == 0 then return end
  local body = {}
  for _, token in ipairs(tokens) do
    body[#body + 1] = token
    body[#body + 1] = packed[token]
  end
  emit(kind, body)
end

local function write(command, key, values)
  for first = 1, #values, at_once do
    redis.call(command, key, unpack(values, first, math.min(first + at_once - 1, #values)))
  end
end

-- Write all that was decided: the events first, for they are the only write that could be refused.
local function commit()
  for _, event in ipairs(events) do
    seq = seq + 1
    redis.call('XADD', EVENTS, epoch .. '-' .. seq, 'kind', event.kind, 'mark', mark, 'at', now, unpack(event.body))
  end
  if #events > 0 then redis.call('HSET', SALE, 'seq', seq, 'mark', mark) end
  write('HSET', HOLDS, hold_writes)
  for id, writes in pairs(deadline_writes) do
    write('ZADD', deadlines[id], writes.added)
    write('ZREM', deadlines[id], writes.dropped)
  end
  write('ZADD', PAYMENTS, payments_added)
  write('ZREM', PAYMENTS, payments_dropped)
  local counters, quantities, forgotten = {}, {}, {}
  for id, units in pairs(stock) do
    if units and units.changed then
      for _, field in ipairs(units.changed == 'all' and stock_fields or {'available', 'held', 'sold'}) do
        counters[#counters + 1] = id .. ':' .. field
        counters[#counters + 1] = units[field]
      end
    end
  end
  for field, mine in pairs(customers) do
    if mine.changed and mine.quantity == 0 and mine.tokens == '' then
      forgotten[#forgotten + 1] = field
    elseif mine.changed then
      quantities[#quantities + 1] = field
      quantities[#quantities + 1] = text(mine.quantity) .. mine.tokens
    end
  end
  write('HSET', STOCK, counters)
  write('HSET', CUSTOMERS, quantities)
  write('HDEL', CUSTOMERS, forgotten)
  write('HSET', COMMANDS, command_writes)
end
