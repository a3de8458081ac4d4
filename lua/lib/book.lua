-- The book of a sale: what the script finds is read into locals, changed there, and written by `commit` alone. So a script
-- decides everything before its first write, and nothing after that write can fail.

-- Which counter a hold's units stand in, by its status; a hold that is not there yet has them in `available`.
local counter = {held = 'held', paying = 'held', sold = 'sold', released = 'available', expired = 'available'}
local live = {held = true, paying = true}
local counted = {held = true, paying = true, sold = true}

-- What a script writes of a product that it `changed`.
local counters = {'available', 'held', 'sold'}

-- Values that one command gets at most. Lua's stack has room for 8,000, and an error in the middle of the writes would tear the book. Even,
-- so that a field and its value stay together.
local at_once = 4000

-- What was found or decided, by its name in Redis; nil was not looked at, false is not there.
local stock, records, packed, customers = {}, {}, {}, {}
-- What `commit` writes. `taken` is of new holds, each token with its record: the body of their event too.
local events, hold_writes, taken, command_writes = {}, {}, {}, {}
local deadlines_added, deadlines_dropped, payments_added, payments_dropped = {}, {}, {}, {}
local customers_changed, customers_forgotten = {}, {}

-- A hold's record, and a line of it. `pay_by` and `checkout` are there from check-out on, `returned` after a refund with restock.
local STATUS, CUSTOMER, CURRENCY, CREATED, EXPIRES, LINES, PAY_BY, CHECKOUT = 1, 2, 3, 4, 5, 6, 7, 8
local PRODUCT, QTY, PRICE, REV, RETURNED = 1, 2, 3, 4, 5

-- Whole numbers as text, each converted once: that costs more than all else that a small hold needs.
local text = setmetatable({}, {__index = function(known, number)
  known[number] = string.format('%.0f', number)
  return known[number]
end})

-- One product's counters and terms as a table, or false where the sale has no such product.
local function product(id)
  local found = stock[id]
  if found == nil then
    local values = redis.call('HMGET', STOCK,
      id .. ':available', id .. ':held', id .. ':sold', id .. ':limit', id .. ':price', id .. ':rev', id .. ':currency')
    found = values[1] and {
      available = tonumber(values[1]) or 0, held = tonumber(values[2]) or 0, sold = tonumber(values[3]) or 0,
      limit = tonumber(values[4]) or 0, price = tonumber(values[5]) or 0, rev = tonumber(values[6]) or 0, currency = values[7],
      changed = false,
    }
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

-- What an entry says that a customer holds or bought of a product: the quantity, and the tokens of the live holds as ',token,token'.
local function read_entry(value)
  if not value then return 0, '' end
  local quantity, tokens = value:match('^(%-?%d+)(.*)$')
  return tonumber(quantity), tokens
end

-- The same by the name of the entry.
local function customer(field)
  local value = customers[field]
  if value == nil then
    value = redis.call('HGET', CUSTOMERS, field)
    customers[field] = value
  end
  return read_entry(value)
end

-- What such an entry is to say, false where it says nothing.
local function entry(quantity, tokens) return (quantity ~= 0 or tokens ~= '') and text[quantity] .. tokens end

-- An entry changes, perhaps not for the last time: of what is written of it the last counts.
local function change_customer(field, value)
  customers[field] = value
  if value then
    local last = #customers_changed
    customers_changed[last + 1], customers_changed[last + 2] = field, value
  else
    customers_forgotten[#customers_forgotten + 1] = field
  end
end

local function without(tokens, token)
  local first, last = tokens:find(',' .. token, 1, true)
  return first and tokens:sub(1, first - 1) .. tokens:sub(last + 1) or tokens
end

-- A hold's entry in a product's deadlines, and its end.
local function schedule(id, token, deadline)
  local added = deadlines_added[id]
  if not added then
    added = {}
    deadlines_added[id] = added
  end
  local last = #added
  added[last + 1], added[last + 2] = deadline, token
end
local function unschedule(id, token)
  deadlines_dropped[id] = deadlines_dropped[id] or {}
  table.insert(deadlines_dropped[id], token)
end

-- What becomes of a hold that was there.
local function keep(token, record)
  local bytes, last = cmsgpack.pack(record), #hold_writes
  packed[token], records[token] = bytes, record
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
    local units, field = product(id), id .. ':' .. record[CUSTOMER]
    local quantity, tokens = customer(field)
    if from ~= to then
      units[from] = units[from] - qty
      units[to] = units[to] + qty
      units.changed = counters
    end
    if counted[status] and not counted[was] then quantity = quantity + qty end
    if counted[was] and not counted[status] then quantity = quantity - qty end
    if live[status] and not live[was] then tokens = tokens .. ',' .. token end
    if live[was] and not live[status] then tokens = without(tokens, token) end
    change_customer(field, entry(quantity, tokens))
    if status == 'held' then schedule(id, token, text[record[EXPIRES]]) end
    if was == 'held' then unschedule(id, token) end
  end
  if status == 'paying' then
    payments_added[#payments_added + 1] = record[PAY_BY]
    payments_added[#payments_added + 1] = token
  elseif was == 'paying' then
    payments_dropped[#payments_dropped + 1] = token
  end
  record[STATUS] = status
  keep(token, record)
end

local function overdue(record) return record[STATUS] == 'held' and record[EXPIRES] <= now end

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

-- Where the caller did not bring a product's key its entries stay behind; whoever meets one sees that the hold is no longer held, and drops it.
local function write_deadlines(command, lists)
  for id, values in pairs(lists) do
    if deadlines[id] then write(command, deadlines[id], values) end
  end
end

-- Write all that was decided: the events first, for they are the only write that could be refused.
local function commit()
  for i = 1, #events do
    seq = seq + 1
    redis.call('XADD', EVENTS, epoch .. '-' .. seq, 'kind', events[i].kind, 'mark', mark, 'at', now, unpack(events[i].body))
  end
  if #events > 0 then redis.call('HSET', SALE, 'seq', seq, 'mark', mark) end
  write('HSET', HOLDS, hold_writes)
  write('HSET', HOLDS, taken)
  write_deadlines('ZADD', deadlines_added)
  write_deadlines('ZREM', deadlines_dropped)
  write('ZADD', PAYMENTS, payments_added)
  write('ZREM', PAYMENTS, payments_dropped)
  local figures, forgotten = {}, {}
  for id, units in pairs(stock) do
    local fields = units and units.changed or {}
    for i = 1, #fields do
      local last = #figures
      figures[last + 1], figures[last + 2] = id .. ':' .. fields[i], units[fields[i]]
    end
  end
  for i = 1, #customers_forgotten do
    local field = customers_forgotten[i]
    if not customers[field] then forgotten[#forgotten + 1] = field end
  end
  write('HSET', STOCK, figures)
  write('HSET', CUSTOMERS, customers_changed)
  write('HDEL', CUSTOMERS, forgotten)
  write('HSET', COMMANDS, command_writes)
end
