#!lua
-- hold: take units for many customers in one step, each request decided by itself and in its turn.
-- KEYS: the sale's seven, then the deadlines of every product that a request names.
-- ARGV[1] mark; ARGV[2] packed {products, requests, reclaim_max}; requests one after another in one list, each as token, customer, number
--   of lines, then product and qty of each line, each product once; reclaim_max the number of overdue holds that this call may end.
-- Returns {epoch, seq, now_ms, answer, ...}, one answer a request in the order of the requests; its words in the order of the checks:
--   {'no_sale'}
--   {'unknown_product', product}
--   {'replayed', record}                    this token took its units before, with the same lines
--   {'mismatch'}                            this token took other lines
--   {'fenced'}
--   {'paused'}
--   {'not_started', starts_ms}
--   {'ended'}
--   {'mixed_currencies', product}
--   {'limit_exceeded', product, limit, held_or_bought, tokens}   tokens as ',token,token', of the customer's live holds
--   {'sold_out', product, available, held, wait_ms, limit}       wait_ms to the next deadline, -1 where nothing is held
--   {'held', record}
--@include sale.lua
--@include book.lua

local held, expired = {}, {}
local reclaim_left = arg.reclaim_max
local looked_at = {}

local function expire(token, record)
  become(token, record, 'expired')
  expired[#expired + 1] = token
  reclaim_left = reclaim_left - 1
end

-- An abandoned hold must not stand in its own customer's way.
local function expire_own(mine)
  for token in mine.tokens:gmatch('[^,]+') do
    if reclaim_left <= 0 then return end
    local record = find(token)
    if record and overdue(record) then expire(token, record) end
  end
end

-- End overdue holds of a product until `qty` are available, so that stock comes back with no sweeper running.
local function reclaim(id, units, qty)
  while units.available < qty and reclaim_left > 0 do
    local seen = looked_at[id] or 0
    local tokens = redis.call('ZRANGEBYSCORE', deadlines[id], '-inf', now, 'LIMIT', seen, math.min(reclaim_left, 100))
    if #tokens == 0 then return end
    looked_at[id] = seen + #tokens
    for _, token in ipairs(tokens) do
      local record = find(token)
      if record and overdue(record) then
        expire(token, record)
      elseif not record or record[STATUS] ~= 'held' then
        schedule(id, token, nil)
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

-- Requests are read where they stand: `from` is a request's first line in `requests`, two values a line, and `fields` has the name of each
-- line's customer entry.
local requests, fields = arg.requests, {}
local units_of, entry_of = {}, {}  -- the stock and the customer's entry of each line of the request at hand

local function same_lines(record, from, count)
  if #record[LINES] ~= count then return false end
  for i, line in ipairs(record[LINES]) do
    if line[PRODUCT] ~= requests[from + 2 * i - 2] or line[QTY] ~= requests[from + 2 * i - 1] then return false end
  end
  return true
end

local expires = now + (sale.hold_ttl_ms or 0)

local function pack_lines(from, count)
  local lines = {}
  for i = 1, count do
    local units = units_of[i]
    lines[i] = {requests[from + 2 * i - 2], requests[from + 2 * i - 1], units.price, units.rev}
  end
  return cmsgpack.pack(units_of[1].currency, now, expires, lines)
end

-- Records of one batch differ by little more than their customers, so the rest of a record is packed once: an array of six values (byte
-- 150), the first 'held', the second the customer (up to 31 bytes behind a byte that says how many).
local head, short = '\150' .. cmsgpack.pack('held'), {}
for length = 0, 31 do short[length] = string.char(160 + length) end

local function pack_record(name, from, count)
  local tail
  if count == 1 then
    local tails, qty = units_of[1].tails, requests[from + 1]
    if not tails then
      tails = {}
      units_of[1].tails = tails
    end
    tail = tails[qty] or pack_lines(from, 1)
    tails[qty] = tail
  else
    tail = pack_lines(from, count)
  end
  local length = short[#name]
  return length and head .. length .. name .. tail or head .. cmsgpack.pack(name) .. tail
end

local function take(token, name, from, count)
  for i = 1, count do
    local qty, units, mine = requests[from + 2 * i - 1], units_of[i], entry_of[i]
    units.available, units.held, units.changed = units.available - qty, units.held + qty, true
    mine.quantity, mine.tokens, mine.changed = mine.quantity + qty, mine.tokens .. ',' .. token, true
    schedule(requests[from + 2 * i - 2], token, expires)
  end
  local bytes = pack_record(name, from, count)
  keep(token, bytes, nil)
  held[#held + 1] = token
  return bytes
end

local function decide(token, name, from, count, first_field)
  for i = 1, count do
    local units = product(requests[from + 2 * i - 2])
    if not units then return {'unknown_product', requests[from + 2 * i - 2]} end
    units_of[i], entry_of[i] = units, customers[fields[first_field + i - 1]]
  end
  local earlier = find(token)
  if earlier then
    if same_lines(earlier, from, count) then return {'replayed', packed[token]} end
    return {'mismatch'}
  end
  if fenced then return {'fenced'} end
  if sale.state == 'paused' then return {'paused'} end
  if now < sale.starts_ms then return {'not_started', sale.starts_ms} end
  if sale.state == 'ended' or (sale.ends_ms > 0 and now >= sale.ends_ms) then return {'ended'} end

  for i = 2, count do
    if units_of[i].currency ~= units_of[1].currency then return {'mixed_currencies', requests[from + 2 * i - 2]} end
  end
  for i = 1, count do
    local qty, limit, mine = requests[from + 2 * i - 1], units_of[i].limit, entry_of[i]
    if limit > 0 and mine.quantity + qty > limit then
      expire_own(mine)
      if mine.quantity + qty > limit then
        return {'limit_exceeded', requests[from + 2 * i - 2], limit, mine.quantity, mine.tokens}
      end
    end
  end
  for i = 1, count do
    local id, qty, units = requests[from + 2 * i - 2], requests[from + 2 * i - 1], units_of[i]
    if units.available < qty then
      reclaim(id, units, qty)
      if units.available < qty then return {'sold_out', id, units.available, units.held, wait_ms(id, units), units.limit} end
    end
  end
  return {'held', take(token, name, from, count)}
end

local tokens, starts = {}, {}
local at = 1
while requests[at] do
  local request, name, count = #tokens + 1, requests[at + 1], requests[at + 2]
  tokens[request], starts[request] = requests[at], at
  for line = at + 3, at + 1 + 2 * count, 2 do fields[#fields + 1] = requests[line] .. ':' .. name end
  at = at + 3 + 2 * count
end

local answers, first_field = {}, 1
if exists then prefetch(tokens, fields) end
for i, token in ipairs(tokens) do
  local start = starts[i]
  local name, count = requests[start + 1], requests[start + 2]
  answers[i] = exists and decide(token, name, start + 3, count, first_field) or {'no_sale'}
  first_field = first_field + count
end
emit_holds('expired', expired)
emit_holds('held', held)
commit()
return answer(unpack(answers))
