#!lua
-- hold: take units for many customers in one step, each request decided by itself and in its turn.
-- KEYS: the sale's seven, then the deadlines of every product that a request names.
-- ARGV[1] mark; ARGV[2] packed {products, baskets, tokens, names, picks, reclaim_max}; baskets the different lists of lines that are asked for, each
--   as product, qty, product, qty, ..., each product once; then a request's token, its customer's name and the number of its basket, each in a list
--   of its own; reclaim_max the number of overdue holds that this call may end.
-- Returns {epoch, seq, now_ms, word, detail, ...}, a word and a detail for each request in the order of the requests; nil where the word says it
--   all. The words in the order of the checks:
--   'no_sale'
--   'unknown_product', product
--   'replayed', record                    this token took its units before, with the same lines
--   'mismatch'                            this token took other lines
--   'fenced'
--   'paused'
--   'not_started', starts_ms
--   'ended'
--   'mixed_currencies', product
--   'limit_exceeded', {product, limit, held_or_bought, tokens}   tokens as ',token,token', of the customer's live holds
--   'sold_out', {product, available, held, wait_ms, limit}       wait_ms to the next deadline, -1 where nothing is held
--   'held', record
--@include sale.lua
--@include book.lua

local tokens, names, picks, baskets = arg.tokens, arg.names, arg.picks, arg.baskets
local expired = {}
local reclaim_left = arg.reclaim_max
local looked_at = {}

local function expire(token, record)
  become(token, record, 'expired')
  expired[#expired + 1] = token
  reclaim_left = reclaim_left - 1
end

-- An abandoned hold must not stand in its own customer's way.
local function expire_own(own)
  for token in own:gmatch('[^,]+') do
    if reclaim_left <= 0 then return end
    local record = find(token)
    if record and overdue(record) then expire(token, record) end
  end
end

-- End overdue holds of a product until `qty` are available, so that stock comes back with no sweeper running.
local function reclaim(id, units, qty)
  while units.available < qty and reclaim_left > 0 do
    local seen = looked_at[id] or 0
    local found = redis.call('ZRANGEBYSCORE', deadlines[id], '-inf', now, 'LIMIT', seen, math.min(reclaim_left, 100))
    if #found == 0 then return end
    looked_at[id] = seen + #found
    for _, token in ipairs(found) do
      local record = find(token)
      if record and overdue(record) then
        expire(token, record)
      elseif not record or record[STATUS] ~= 'held' then
        unschedule(id, token)
        reclaim_left = reclaim_left - 1
      end
    end
  end
end

-- Milliseconds until units of a product may come back, -1 where none can.
local waits = {}
local function wait_ms(id, units)
  if units.held == 0 then return -1 end
  if not waits[id] then
    local next_hold = redis.call('ZRANGEBYSCORE', deadlines[id], '(' .. now, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
    local next_payment = next_hold[2] or redis.call('ZRANGEBYSCORE', PAYMENTS, '(' .. now, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2]
    waits[id] = next_payment and tonumber(next_payment) - now or sale.hold_ttl_ms
  end
  return waits[id]
end

local function same_lines(record, basket)
  if 2 * #record[LINES] ~= #basket then return false end
  for i, line in ipairs(record[LINES]) do
    if line[PRODUCT] ~= basket[2 * i - 1] or line[QTY] ~= basket[2 * i] then return false end
  end
  return true
end

local expires = now + (sale.hold_ttl_ms or 0)
local deadline = text[expires]

-- A new hold's record is an array of six (byte 150), the first 'held' (byte 164 and its letters), the second its customer. The records of one
-- batch differ by little more, so what stands before the name is packed once for each length of a name, and what stands behind it once for
-- each basket.
local heads = {}
local function head(name)
  local found = '\150\164held' .. cmsgpack.pack(name):sub(1, -#name - 1)
  heads[#name] = found
  return found
end

local function tail(basket)
  local lines = {}
  for i = 1, #basket, 2 do
    local units = stock[basket[i]]
    lines[#lines + 1] = {basket[i], basket[i + 1], units.price, units.rev}
  end
  basket.tail = cmsgpack.pack(stock[basket[1]].currency, now, expires, lines)
  return basket.tail
end

-- What is wrong with a basket itself, whoever asks for it.
local function look_at(basket)
  for i = 1, #basket, 2 do
    local units = product(basket[i])
    if not units then
      basket.unknown = basket[i]
      return
    end
    if units.currency ~= stock[basket[1]].currency then basket.mixed = basket.mixed or basket[i] end
  end
end

-- Why nobody can have a hold of this sale at this moment, and what goes with it.
local function shut()
  if fenced then return 'fenced' end
  if sale.state == 'paused' then return 'paused' end
  if now < sale.starts_ms then return 'not_started', sale.starts_ms end
  if sale.state == 'ended' or (sale.ends_ms > 0 and now >= sale.ends_ms) then return 'ended' end
end

-- `entries` has the names of the customers' entries, one for each line of each request; those of this one begin behind `before`.
local entries, shut_by, opens = {}, nil, nil
local function decide(token, name, basket, before)
  if not exists then return 'no_sale' end
  if basket.unknown then return 'unknown_product', basket.unknown end
  local earlier = packed[token]
  if earlier then
    if same_lines(find(token), basket) then return 'replayed', earlier end
    return 'mismatch'
  end
  if shut_by then return shut_by, opens end
  if basket.mixed then return 'mixed_currencies', basket.mixed end

  for i = 2, #basket, 2 do
    local limit = stock[basket[i - 1]].limit
    if limit > 0 then
      local qty, field = basket[i], entries[before + i / 2]
      local quantity, own = read_entry(customers[field])
      if quantity + qty > limit then
        expire_own(own)
        quantity, own = read_entry(customers[field])
        if quantity + qty > limit then return 'limit_exceeded', {basket[i - 1], limit, quantity, own} end
      end
    end
  end
  for i = 2, #basket, 2 do
    local id, qty = basket[i - 1], basket[i]
    local units = stock[id]
    if units.available < qty then
      reclaim(id, units, qty)
      if units.available < qty then return 'sold_out', {id, units.available, units.held, wait_ms(id, units), units.limit} end
    end
  end

  for i = 2, #basket, 2 do
    local id, qty, field = basket[i - 1], basket[i], entries[before + i / 2]
    local units, quantity, own = stock[id], read_entry(customers[field])
    units.available, units.held, units.changed = units.available - qty, units.held + qty, counters
    change_customer(field, text[quantity + qty] .. own .. ',' .. token)
    schedule(id, token, deadline)
  end
  local record = (heads[#name] or head(name)) .. name .. (basket.tail or tail(basket))
  local last = #taken
  packed[token], taken[last + 1], taken[last + 2] = record, token, record
  return 'held', record
end

if exists then
  shut_by, opens = shut()
  for i = 1, #baskets do look_at(baskets[i]) end
  local last = 0
  for i = 1, #tokens do
    local basket = baskets[picks[i]]
    for line = 1, #basket, 2 do
      last = last + 1
      entries[last] = basket[line] .. ':' .. names[i]
    end
  end
  -- What all the requests need is read with one command a hash. What is not there is not noted, for that is most of it.
  for first = 1, #tokens, at_once do
    local found = redis.call('HMGET', HOLDS, unpack(tokens, first, math.min(first + at_once - 1, #tokens)))
    for i = 1, #found do
      if found[i] then packed[tokens[first + i - 1]] = found[i] end
    end
  end
  for first = 1, #entries, at_once do
    local found = redis.call('HMGET', CUSTOMERS, unpack(entries, first, math.min(first + at_once - 1, #entries)))
    for i = 1, #found do
      if found[i] then customers[entries[first + i - 1]] = found[i] end
    end
  end
end
local answers, before, last = answer(), 0, 3
for i = 1, #tokens do
  local basket = baskets[picks[i]]
  local word, detail = decide(tokens[i], names[i], basket, before)
  answers[last + 1], answers[last + 2] = word, detail or false
  before, last = before + #basket / 2, last + 2
end
emit_holds('expired', expired)
if #taken > 0 then emit('held', taken) end
commit()
answers[2] = seq
return answers
