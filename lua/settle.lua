#!lua flags=allow-oom
-- settle: the money of holds in payment is authorised, so their units are sold; each hold is decided by itself. A deadline that has passed
-- does not matter as long as nobody ended the hold. One that is still `held` was rolled back from payment by a Redis that lost data: its
-- money is as real.
-- KEYS: the sale's seven, then the deadlines of the holds' products.
-- ARGV[1] mark; ARGV[2] packed {products, tokens}.
-- Returns {epoch, seq, now_ms, answer, ...}, one answer a token in the order of the tokens; its words in the order of the checks:
--   {'no_sale'}
--   {'fenced'}
--   {'no_hold'}
--   {'replayed', record}    sold before
--   {'released', record}
--   {'expired', record}
--   {'settled', record}
--@include sale.lua
--@include book.lua

local settled = {}

local function settle(token)
  if not exists then return {'no_sale'} end
  if fenced then return {'fenced'} end
  local record = find(token)
  if not record then return {'no_hold'} end
  if record[STATUS] == 'sold' then return {'replayed', packed[token]} end
  if record[STATUS] == 'released' then return {'released', packed[token]} end
  if record[STATUS] == 'expired' then return {'expired', packed[token]} end
  become(token, record, 'sold')
  settled[#settled + 1] = token
  return {'settled', packed[token]}
end

local answers = {}
for i, token in ipairs(arg.tokens) do answers[i] = settle(token) end
emit_holds('settled', settled)
commit()
return answer(unpack(answers))
