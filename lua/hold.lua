#!lua
-- hold: take units for many customers in one step, each request decided by itself and in its turn.
-- KEYS: the sale's seven, then the deadlines of every product that a request names.
-- ARGV[1] mark; ARGV[2] packed {products, requests, reclaim_max}, a request as {token, customer, {{product, qty}, ...}} with
--   each product once, reclaim_max the number of overdue holds that this call may end.
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
--   {'sold_out', product, available, held, wait_ms}              wait_ms to the next deadline, -1 where nothing is held
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

local function same_lines(record, lines)
  if #record[LINES] ~= #lines then return false end
  for i, line in ipairs(lines) do
    local kept = record[LINES][i]
    if kept[PRODUCT] ~= line[PRODUCT] or kept[QTY] ~= line[QTY] then return false end
  end
  return true
end

local function decide(token, name, lines)
  for _, line in ipairs(lines) do
    if not product(line[PRODUCT]) then return {'unknown_product', line[PRODUCT]} end
  end
  local earlier = find(token)
  if earlier then
    if same_lines(earlier, lines) then return {'replayed', packed[token]} end
    return {'mismatch'}
  end
  if fenced then return {'fenced'} end
  if sale.state == 'paused' then return {'paused'} end
  if now < sale.starts_ms then return {'not_started', sale.starts_ms} end
  if sale.state == 'ended' or (sale.ends_ms > 0 and now >= sale.ends_ms) then return {'ended'} end

  local currency = product(lines[1][PRODUCT]).currency
  for _, line in ipairs(lines) do
    if product(line[PRODUCT]).currency ~= currency then return {'mixed_currencies', line[PRODUCT]} end
  end
  for _, line in ipairs(lines) do
    local id, qty = line[PRODUCT], line[QTY]
    local limit, mine = product(id).limit, customer(id, name)
    if limit > 0 and mine.quantity + qty > limit then
      expire_own(mine)
      if mine.quantity + qty > limit then return {'limit_exceeded', id, limit, mine.quantity, mine.tokens} end
    end
  end
  for _, line in ipairs(lines) do
    local id, qty = line[PRODUCT], line[QTY]
    local units = product(id)
    if units.available < qty then reclaim(id, units, qty) end
    if units.available < qty then return {'sold_out', id, units.available, units.held, wait_ms(id, units)} end
  end

  local taken = {}
  for i, line in ipairs(lines) do
    local units = product(line[PRODUCT])
    taken[i] = {line[PRODUCT], line[QTY], units.price, units.rev}
  end
  become(token, {false, name, currency, now, now + sale.hold_ttl_ms, taken}, 'held')
  held[#held + 1] = token
  return {'held', packed[token]}
end

if not exists then
  local answers = {}
  for i in ipairs(arg.requests) do answers[i] = {'no_sale'} end
  return answer(unpack(answers))
end

local tokens, fields = {}, {}
for i, request in ipairs(arg.requests) do
  tokens[i] = request[1]
  for _, line in ipairs(request[3]) do fields[#fields + 1] = line[PRODUCT] .. ':' .. request[2] end
end
prefetch(tokens, fields)

local answers = {}
for i, request in ipairs(arg.requests) do answers[i] = decide(request[1], request[2], request[3]) end
emit_holds('expired', expired)
emit_holds('held', held)
commit()
return answer(unpack(answers))
