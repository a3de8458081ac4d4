-- The sale as this call finds it. Every script of a sale gets the same keys in the same order:
local SALE = KEYS[1]       -- hash    state, window, lifetimes, epoch, seq, mark
local STOCK = KEYS[2]      -- hash    P:total, P:available, P:held, P:sold, ... for each product P
local HOLDS = KEYS[3]      -- hash    token -> packed record
local CUSTOMERS = KEYS[4]  -- hash    P:customer -> quantity held or bought, then the tokens of the live holds
local PAYMENTS = KEYS[5]   -- zset    token -> deadline, of holds in payment
local EVENTS = KEYS[6]     -- stream  what happened, <epoch>-<seq>
local COMMANDS = KEYS[7]   -- hash    id of a command that must not happen twice -> its answer
                           -- from KEYS[8] on: zset token -> deadline of one product's holds, in the order of arg.products
local mark = ARGV[1]
local arg = cmsgpack.unpack(ARGV[2])

local deadlines, products = {}, arg.products or {}
for i = 1, #products do deadlines[products[i]] = KEYS[7 + i] end

local sale
do
  local found = redis.call('HMGET', SALE, 'epoch', 'seq', 'state', 'fenced', 'starts_ms', 'ends_ms', 'hold_ttl_ms', 'payment_ttl_ms', 'shift_ms')
  sale = {
    epoch = tonumber(found[1]), seq = tonumber(found[2]), state = found[3], fenced = tonumber(found[4]),
    starts_ms = tonumber(found[5]), ends_ms = tonumber(found[6]),
    hold_ttl_ms = tonumber(found[7]), payment_ttl_ms = tonumber(found[8]), shift_ms = tonumber(found[9]),
  }
end
local exists, fenced = sale.epoch ~= nil, sale.fenced == 1
local epoch, seq = sale.epoch or 0, sale.seq or 0

-- Redis's own clock, in milliseconds. `shift_ms` is 0 but in tests, which move time with it.
local now
do
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000) + (sale.shift_ms or 0)
end

-- Every answer starts with where the sale stands, so that a caller sees a Redis that lost data.
local function answer(...) return {epoch, seq, now, ...} end
