#!lua
-- checkout: held holds enter payment and get their one payment period; each hold is decided by itself.
-- KEYS: the sale's seven, then the deadlines of the holds' products.
-- ARGV[1] mark; ARGV[2] packed {products, tokens, checkouts}, a token's checkout the id of the request that wants to pay for it.
-- Returns {epoch, seq, now_ms, answer, ...}, one answer a token in the order of the tokens; its words in the order of the checks:
--   {'no_sale'}
--   {'fenced'}
--   {'no_hold'}
--   {'replayed', record}    this very request checked it out before
--   {'used', record}        another request did, or it is sold
--   {'released', record}
--   {'expired', record}
--   {'paying', record}
--@include sale.lua
--@include book.lua

local entered = {}

local function check_out(token, checkout)
  if not exists then return {'no_sale'} end
  if fenced then return {'fenced'} end
  local record = find(token)
  if not record then return {'no_hold'} end
  local status = record[STATUS]
  if record[CHECKOUT] == checkout then return {'replayed', packed[token]} end
  if record[CHECKOUT] or status == 'sold' then return {'used', packed[token]} end
  if status == 'released' then return {'released', packed[token]} end
  if status == 'expired' or overdue(record) then return {'expired', packed[token]} end
  record[PAY_BY], record[CHECKOUT] = now + sale.payment_ttl_ms, checkout
  become(token, record, 'paying')
  entered[#entered + 1] = token
  return {'paying', packed[token]}
end

local answers = {}
for i, token in ipairs(arg.tokens) do answers[i] = check_out(token, arg.checkouts[i]) end
emit_holds('paying', entered)
commit()
return answer(unpack(answers))
