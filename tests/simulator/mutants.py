# ruff: noqa: E501 - a row is a row
"""Faults that could be written into a script, as text to find and text to put there. The simulator must notice each."""

import hashlib
from collections.abc import Callable
from importlib.resources import files
from typing import Final, NamedTuple

import lua


class Mutant(NamedTuple):
    """``script`` is a script's name, or ``lib/...`` for what many include. ``find`` stands there once."""

    script: str
    find: str
    replace: str
    why: str

    @property
    def id(self) -> str:
        return f"{self.script}: {self.why}"


def loader(mutant: Mutant) -> Callable[[str], lua.Script]:
    """What stands in for ``lua.script``. Raises ``LookupError`` where the text is not there, or more than once."""
    original = lua.script
    text = (files("lua") / f"{mutant.script.removesuffix('.lua')}.lua").read_text()
    if text.count(mutant.find) != 1:
        raise LookupError(f"{mutant.script} has {mutant.find!r} {text.count(mutant.find)} times")
    known: dict[str, lua.Script] = {}

    def script(name: str) -> lua.Script:
        if name not in known:
            source = original(name).source
            if mutant.script in (name, "lib/book.lua", "lib/sale.lua"):
                source = source.replace(mutant.find, mutant.replace)
            sha = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
            known[name] = lua.Script(name, source, sha)
        return known[name]

    return script


def _of(script: str, *rows: tuple[str, str, str]) -> list[Mutant]:
    return [Mutant(script, *row) for row in rows]


BOOK: Final = _of(
    "lib/book.lua",
    ("units[from] = units[from] - qty", "units[from] = units[from] + qty", "units leave a counter with the wrong sign"),
    ("units[to] = units[to] + qty", "", "units arrive nowhere"),
    ("sold = 'sold', released", "sold = 'held', released", "sold units stand in held"),
    ("    if counted[status] and not counted[was]", "    if live[status] and not counted[was]", "late money is not counted"),
    (
        "    if counted[was] and not counted[status] then quantity = quantity - qty end\n",
        "",
        "a customer's units never come back",
    ),
    ("tokens = tokens .. ',' .. token", "tokens = ',' .. token", "a customer's earlier holds are forgotten"),
    ("    if live[was] and not live[status] then", "    if false then", "an ended hold stays among the live ones"),
    ("    if live[was] and not live[status] then", "    if live[was] then", "a hold in payment is no longer live"),
    ("    if status == 'held' then schedule(id, token, text[record[EXPIRES]]) end\n", "", "a hold has no deadline"),
    ("    if was == 'held' then unschedule(id, token) end\n", "", "an ended hold keeps its deadline"),
    ("    payments_added[#payments_added + 1] = record[PAY_BY]", "    payments_added[#payments_added + 1] = record[EXPIRES]", "the payment's deadline is the hold's"),
    ("  elseif was == 'paying' then", "  elseif was == 'sold' then", "a hold that was paid stays in the payments"),
    ("  if status == 'paying' then", "  if status == 'sold' then", "the payments list what is sold"),
    ("record[EXPIRES] <= now end", "record[EXPIRES] < now end", "a hold lives a millisecond past its deadline"),
    ("return record[STATUS] == 'held' and record[EXPIRES]", "return record[EXPIRES]", "a hold in payment counts as overdue"),
    ("return line[QTY] - (line[RETURNED] or 0) end", "return line[QTY] end", "refunded units come back twice"),
    ("packed[token], records[token] = bytes, record", "records[token] = record", "events and answers carry the old record"),
    ("'mark', mark, 'at', now,", "'mark', 'm', 'at', now,", "every event has the same mark"),
    ("'at', now, unpack", "'at', 0, unpack", "events do not say when"),
    ("'seq', seq, 'mark', mark) end", "'seq', seq) end", "the sale does not know its last mark"),
    ("  if #events > 0 then redis.call('HSET', SALE, 'seq', seq, 'mark', mark) end\n", "", "the sale's number stands still"),
    ("  write_deadlines('ZREM', deadlines_dropped)\n", "", "deadlines are never dropped"),
    ("  write_deadlines('ZADD', deadlines_added)\n", "", "deadlines are never written"),
    ("  write('ZADD', PAYMENTS, payments_added)\n", "", "payments have no deadline"),
    ("  write('ZREM', PAYMENTS, payments_dropped)\n", "", "payments are never dropped"),
    ("  write('HSET', HOLDS, hold_writes)\n", "", "holds are not written"),
    ("  write('HSET', HOLDS, taken)\n", "", "new holds are not written"),
    ("  write('HSET', STOCK, figures)\n", "", "counters are not written"),
    ("  write('HSET', CUSTOMERS, customers_changed)\n", "", "customers are not written"),
    ("  write('HDEL', CUSTOMERS, forgotten)\n", "", "customers with nothing are not forgotten"),
    ("    if not customers[field] then forgotten", "    if true then forgotten", "a customer who comes again is forgotten"),
    ("  customers[field] = value\n  if value then", "  if value then", "a customer's earlier change is not seen"),
    ("  write('HSET', COMMANDS, command_writes)\n", "", "a command may happen twice"),
    ("(quantity ~= 0 or tokens ~= '') and", "tokens ~= '' and", "who bought is forgotten"),
    ("counters = {'available', 'held', 'sold'}", "counters = {'available', 'held'}", "sold is not written"),
    ("tokens:sub(1, first - 1) .. tokens:sub(last + 1)", "tokens:sub(last + 1)", "with one hold the earlier ones go"),
    ("    if deadlines[id] then", "    if true then", "a product that was not brought ends the script halfway"),
)  # fmt: skip

SALE: Final = _of(
    "lib/sale.lua",
    ("sale.epoch ~= nil, sale.fenced == 1", "sale.epoch ~= nil, false", "the fence is open"),
    ("math.floor(time[2] / 1000)", "0", "time goes by the second"),
    ("+ (sale.shift_ms or 0)", "", "time cannot be moved"),
    (
        "deadlines[products[i]] = KEYS[7 + i]",
        "deadlines[products[i]] = KEYS[8]",
        "every product has the first one's deadlines",
    ),
    ("sale.epoch or 0, sale.seq or 0", "sale.epoch or 0, 0", "the events begin again"),
)

HOLD: Final = _of(
    "hold",
    ("    if not units then\n", "    if false then\n", "an unknown product ends the script"),
    ("packed[tokens[first + i - 1]] = found[i]", "packed[tokens[1]] = found[i]", "a batch reads everybody's hold as the first's"),
    ("customers[entries[first + i - 1]] = found[i]", "customers[entries[1]] = found[i]", "a batch reads the last customer as the first"),
    ("      if found[i] then packed[", "      if false then packed[", "a hold that is there is not seen"),
    ("      if found[i] then customers[", "      if false then customers[", "what a customer has is not seen"),
    ("  if earlier then", "  if earlier and live[find(token)[STATUS]] then", "a retry after the end takes again"),
    ("  if earlier then", "  if false then", "a retry takes again"),
    ("    if same_lines(find(token), basket) then", "    if true then", "a token serves for any lines"),
    ("  if 2 * #record[LINES] ~= #basket then return false end\n", "", "more lines are the same lines"),
    (" or line[QTY] ~= basket[2 * i] then", " then", "other quantities are the same lines"),
    ("  if fenced then return 'fenced' end\n", "", "a fenced sale sells"),
    ("  if sale.state == 'paused' then return 'paused' end\n", "", "a paused sale sells"),
    ("  if now < sale.starts_ms then", "  if false then", "a sale sells before it starts"),
    ("  if now < sale.starts_ms then", "  if now <= sale.starts_ms then", "a sale starts a millisecond late"),
    ("now >= sale.ends_ms", "now > sale.ends_ms", "a sale ends a millisecond late"),
    ("sale.state == 'ended' or (", "(", "an ended sale sells"),
    (" or (sale.ends_ms > 0 and now >= sale.ends_ms) then", " then", "a sale sells past its end"),
    ("units.currency ~= stock[basket[1]].currency", "units.currency == ''", "a hold mixes currencies"),
    ("      if quantity + qty > limit then\n", "      if quantity >= limit then\n", "the limit forgets this request"),
    ("      if quantity + qty > limit then\n", "      if qty > limit then\n", "the limit forgets what was held"),
    ("      if quantity + qty > limit then\n", "      if quantity + qty >= limit then\n", "the limit is one less"),
    ("    if reclaim_left <= 0 then return end\n", "", "a customer's abandoned holds end without a bound"),
    ("        expire_own(own)\n", "", "an abandoned hold stands in its own customer's way"),
    ("limit, quantity, own}", "limit, quantity + qty, own}", "the refusal names a wrong quantity"),
    ("      if units.available < qty then return", "      if units.available <= 0 then return", "two are sold of one"),
    ("      if units.available < qty then return", "      if false then return", "never sold out"),
    ("      reclaim(id, units, qty)\n", "", "abandoned units wait for the sweeper"),
    ("    if units.available < qty then\n", "    if units.available == 0 then\n", "one is enough for any quantity"),
    ("  expired[#expired + 1] = token\n", "", "an expiry has no event"),
    ("  reclaim_left = reclaim_left - 1\nend", "end", "a batch reclaims without a bound"),
    ("        unschedule(id, token)\n", "", "stale deadlines are never dropped"),
    ("        reclaim_left = reclaim_left - 1\n", "", "stale deadlines are met without a bound"),
    ("  if units.held == 0 then return -1 end\n", "", "a wait for what nobody holds"),
    ("tonumber(next_payment) - now", "tonumber(next_payment)", "a wait of fifty years"),
    ("local next_payment = next_hold[2] or ", "local next_payment = ", "the wait forgets the holds"),
    ("units.price, units.rev}", "units.price, 1}", "a hold has its product's first label"),
    ("units.price, units.rev}", "units.compare_at, units.rev}", "a hold has another price"),
    ("now + (sale.hold_ttl_ms or 0)", "now + (sale.payment_ttl_ms or 0)", "a hold lives for the payment's time"),
    ("if #taken > 0 then emit('held', taken) end\n", "", "a hold has no event"),
    ("emit_holds('expired', expired)\nif #taken > 0 then emit('held', taken) end\n", "if #taken > 0 then emit('held', taken) end\nemit_holds('expired', expired)\n", "units are held before they came back"),
    ("= word, detail or false\n", "= word, answers[5] or detail or false\n", "everybody gets the first one's answer"),
    ("decide(tokens[i], names[i],", "decide(tokens[i], names[1],", "every record has the first customer"),
    ("  before, last = before + #basket / 2,", "  before, last = before,", "the first customer's limit is everybody's"),
    ("(basket.tail or tail(basket))", "(baskets[1].tail or tail(basket))", "every record has the first one's quantity"),
    ("  heads[#name] = found\n", "  for length = 0, 512 do heads[length] = found end\n", "a long customer's record cannot be read"),
    ("units.available - qty, units.held + qty, counters", "units.available, units.held + qty, counters", "a hold takes nothing"),
    ("    schedule(id, token, deadline)\n", "", "a hold has no deadline"),
    ("text[quantity + qty] .. own", "text[quantity + 1] .. own", "a hold of three counts as one"),
    ("commit()\n", "", "nothing is written"),
)  # fmt: skip

CHECKOUT: Final = _of(
    "checkout",
    ("if record[CHECKOUT] == checkout then", "if false then", "a retry is somebody else"),
    ("if record[CHECKOUT] == checkout then", "if record[CHECKOUT] then", "whoever comes second pays too"),
    ("if status == 'released' then", "if false then", "a released hold is paid"),
    ("status == 'expired' or overdue(record)", "status == 'expired'", "an overdue hold is paid"),
    ("status == 'expired' or overdue(record)", "overdue(record)", "an expired hold is paid"),
    ("now + sale.payment_ttl_ms", "record[EXPIRES]", "no time to pay"),
    (", record[CHECKOUT] = now + sale.payment_ttl_ms, checkout", " = now + sale.payment_ttl_ms", "nobody knows who paid"),
    ("emit_holds('paying', entered)\n", "", "a check-out has no event"),
    ("  entered[#entered + 1] = token\n", "  entered = {token}\n", "of a set only the last has an event"),
    ("if fenced then return {'fenced'} end\n", "", "a fenced sale takes check-outs"),
    ("check_out(token, arg.checkouts[i])", "check_out(token, arg.checkouts[1])", "a set is the first one's request"),
    ("answers[i] = check_out(", "answers[i] = answers[1] or check_out(", "a set gets the first one's answer"),
)  # fmt: skip

SETTLE: Final = _of(
    "settle",
    ("if record[STATUS] == 'sold' then", "if false then", "sold twice"),
    ("if record[STATUS] == 'released' then", "if false then", "a released hold is sold"),
    ("if record[STATUS] == 'expired' then", "if false then", "an expired hold is sold"),
    ("become(token, record, 'sold')", "become(token, record, 'paying')", "paid and not sold"),
    ("emit_holds('settled', settled)\n", "", "a sale has no event"),
    ("emit_holds('settled',", "emit_holds('paying',", "a sale has another event"),
    ("  settled[#settled + 1] = token\n", "  settled = {token}\n", "of a set only the last has an event"),
    ("if fenced then return {'fenced'} end\n", "", "a fenced sale settles"),
    ("answers[i] = settle(token)", "answers[i] = answers[1] or settle(token)", "a set gets the first one's answer"),
    ("commit()\n", "", "nothing is written"),
)

RELEASE: Final = _of(
    "release",
    ("if status == 'released' or status == 'expired' then", "if false then", "released twice"),
    ("if status == 'paying' then", "if false then", "released while it is paid"),
    ("if status == 'sold' then", "if false then", "released when it is sold"),
    ("overdue(record) and 'expired' or 'released'", "'released'", "an overdue hold ends as released"),
    ("emit_holds(ending, {arg.token})\n", "", "a release has no event"),
    ("if fenced then return answer('fenced') end\n", "", "a fenced sale releases"),
)

CANCEL: Final = _of(
    "cancel",
    ("if not counted[status] then", "if false then", "cancelled twice"),
    ("status == 'sold' and 'returned' or arg.ending", "arg.ending", "a sold hold ends as one in payment"),
    ("become(arg.token, record, arg.ending)", "become(arg.token, record, 'released')", "what ran out was given back"),
    ("emit_holds(happened, {arg.token})\n", "", "a cancellation has no event"),
    ("if fenced then return answer('fenced') end\n", "", "a fenced sale cancels"),
)

RETAKE: Final = _of(
    "retake",
    ("if record[STATUS] == 'sold' then", "if false then", "late money that was not late is refused"),
    ("if record[STATUS] ~= 'expired' then", "if false then", "a live hold is taken again"),
    ("if sale.state == 'paused' then return answer('paused') end\n", "", "a paused sale takes late money"),
    ("if sale.state == 'ended' or (", "if (", "an ended sale takes late money"),
    ("now >= sale.ends_ms)", "now < 0)", "a sale takes late money past its end"),
    ("quantity + line[QTY] > units.limit", "line[QTY] > units.limit", "late money passes the limit"),
    (".available < line[QTY] then", ".available < 0 then", "late money oversells"),
    ("become(arg.token, record, 'sold')", "become(arg.token, record, 'held')", "late money holds and does not sell"),
    ("emit_holds('retaken',", "emit_holds('settled',", "late money moves the wrong counter in the books"),
    ("if fenced then return answer('fenced') end\n", "", "a fenced sale takes late money"),
)

RESTOCK: Final = _of(
    "restock",
    ("if done then return", "if false then return", "one refund restocks twice"),
    ("if record[STATUS] ~= 'sold' then", "if false then", "units come back that were not sold"),
    (" and back[QTY] <= outstanding(line) then", " then", "more comes back than was sold"),
    ("if not found then", "if false then", "a product that was not bought comes back"),
    ("keep(arg.token, record)\n", "", "the hold does not know what came back"),
    ("emit('restocked', {", "local _ = ({", "a restock has no event"),
    ("command_writes = {arg.command, seq + 1}", "command_writes = {arg.command, seq}", "a replay names another event"),
    ("give_back(line, back[QTY])", "give_back(line, 1)", "one unit comes back whatever was said"),
    (
        "units.sold, units.available, units.changed = units.sold - qty, units.available + qty, counters",
        "units.sold, units.changed = units.sold - qty, counters",
        "refunded units vanish",
    ),
    ("  change_customer(field, entry(quantity - qty, tokens))\n", "", "refunded units count for their customer"),
    ("line[RETURNED] = (line[RETURNED] or 0) + qty", "line[RETURNED] = qty", "a second refund forgets the first"),
    ("if fenced then return answer('fenced') end\n", "", "a fenced sale restocks"),
)

EXPIRE: Final = _of(
    "expire",
    ("    if record and overdue(record) then", "    if record then", "whatever stands there expires"),
    ("    left = left - 1\n", "", "a sweep has no bound"),
    ("'LIMIT', 0, left)", "'LIMIT', 0, arg.limit)", "the bound is each product's"),
    ("'-inf', now, 'LIMIT'", "'-inf', '+inf', 'LIMIT'", "holds are met before their deadline"),
    ("      unschedule(id, token)\n", "", "stale deadlines are never dropped"),
    ("emit_holds('expired', expired)\n", "", "an expiry has no event"),
    ("left == 0 and 1 or 0", "0", "nobody hears that there is more"),
    ("become(token, record, 'expired')", "become(token, record, 'released')", "what ran out was given back"),
    ("if fenced then return answer('fenced') end\n", "", "a fenced sale expires"),
)

LOAD: Final = _of(
    "load",
    ("if not exists and arg.create == 0 then", "if false then", "a lost sale is made anew"),
    ("if fenced then return answer('fenced') end\n", "", "a fenced sale is loaded"),
    ("item.stock - units.loaded", "item.stock - units.total", "a file takes back what was adjusted"),
    ("delta < units.held + units.sold then", "delta < units.sold then", "a file takes what is held"),
    ("delta < units.held + units.sold then", "delta < 0 then", "a file takes what is sold"),
    ("  if relabelled then units.rev = units.rev + 1 end\n", "", "a new price has the old label"),
    (" or units.limit ~= item.limit then", " then", "a new limit is not a change"),
    ("units.limit, units.loaded, units.changed = item.limit, item.stock, whole", "units.limit, units.changed = item.limit, whole", "the file is forgotten"),
    ("units.total + delta, units.available + delta\n", "units.total + delta, units.available\n", "new units are not for sale"),
    ("if not changed and #changes == 0 then", "if false then", "the same file is a change"),
    ("if not changed and #changes == 0 then", "if #changes == 0 then", "a new window is no change"),
    ("  epoch, seq = 1, 0\n", "", "a sale begins in no epoch"),
    ("redis.call('HSET', SALE, unpack(settings))\n", "", "the sale's settings are not written"),
    ("emit('loaded', {", "local _ = ({", "a file has no event"),
    ("changes[#changes + 1] = {item.id, delta,", "changes[#changes + 1] = {item.id, item.stock,", "the books get the file and not the difference"),
)  # fmt: skip

ADJUST: Final = _of(
    "adjust",
    ("if done then return", "if false then return", "one command adjusts twice"),
    ("if total < units.held + units.sold then", "if total < units.sold then", "units are taken that are held"),
    ("if total < units.held + units.sold then", "if total < units.held then", "units are taken that are sold"),
    ("total, units.available + arg.delta, whole", "total, units.available, whole", "new units are not for sale"),
    ("total, units.available + arg.delta, whole", "total, units.available - arg.delta, whole", "the wrong sign"),
    ("command_writes = {arg.command, seq + 1}\n", "", "the command is forgotten"),
    ("emit('adjusted', {", "local _ = ({", "an adjustment has no event"),
    ("'delta', arg.delta,", "'delta', -arg.delta,", "the books get the wrong sign"),
    ("if not units then return answer('unknown_product') end\n", "", "an unknown product ends the script"),
    ("if fenced then return answer('fenced') end\n", "", "a fenced sale is adjusted"),
)

CONTROL: Final = _of(
    "control",
    ("if sale.state == 'ended' and arg.reopen ~= 1 then return", "if false then return", "an ended sale opens again"),
    ("if sale.state == arg.state then return", "if false then return", "a state follows itself"),
    ("emit('state', {'state', arg.state})\n", "", "a state has no event"),
    ("redis.call('HSET', SALE, 'state', arg.state)\n", "", "a state is said and not set"),
    ("if fenced then return answer('fenced') end\n", "", "a fenced sale is opened"),
)

FENCE: Final = _of(
    "fence",
    ("if arg.epoch > 0 and arg.epoch ~= epoch then", "if false then", "an old rebuild frees the sale"),
    ("if sale.fenced == arg.fenced then return", "if false then return", "a fence is said twice"),
    ("redis.call('HSET', SALE, 'fenced', arg.fenced)\n", "", "a fence is said and not set"),
    ("'fenced', arg.fenced)", "'fenced', 1 - arg.fenced)", "the fence opens where it should shut"),
)

MEND: Final = _of(
    "mend",
    ("if repairs ~= arg.repairs then return", "if false then return", "one finding is mended twice"),
    ("redis.call('HSET', SALE, 'repairs', repairs + 1)\n", "", "repairs are not counted"),
    (" or 0) + change[3])", " or 0) - change[3])", "a repair doubles the fault"),
    (" == change[2] then", " ~= nil then", "a repair overwrites what changed meanwhile"),
    ("if change[3] == '' then", "if false then", "a repair leaves an empty customer"),
)

TRIM: Final = _of(
    "trim",
    ("entry[2][4] ~= arg.cursor_mark", "false", "events go that nobody has read"),
    ("if not entry or", "if entry and", "a missing cursor is no reason"),
    ("'MINID', arg.keep_from", "'MINID', arg.cursor", "no stretch is kept"),
)

REBUILD: Final = [
    *_of(
        "reset",
        ("if epoch >= arg.epoch then", "if epoch > arg.epoch then", "a rebuild resets the one before it"),
        ("redis.call('UNLINK', unpack(KEYS))\n", "", "the old holds stay"),
        ("'fenced', 1, unpack", "'fenced', 0, unpack", "a half-built sale sells"),
        ("'seq', 0, 'mark'", "'seq', seq, 'mark'", "the new epoch goes on from the old one's number"),
        ("item.total, 0, 0, whole", "item.loaded, 0, 0, whole", "adjustments are lost"),
        ("commit()\n", "", "there is nothing to sell"),
    ),
    *_of(
        "restore",
        ("if epoch ~= arg.epoch then", "if false then", "two rebuilds fill one sale"),
        ("  if live[status] and not fits(record) then", "  if false then", "what does not fit oversells"),
        ("  if live[status] and not fits(record) then", "  if not fits(record) then", "what was sold expires"),
        ("    if product(line[PRODUCT]).available < line[QTY] then return false end", "    if product(line[PRODUCT]).available < 0 then return false end", "the last units are given twice"),
        ("    status = 'expired'\n", "", "the event lies about what is held"),
        ("emit_holds('expired', expired)\n", "", "an expiry has no event"),
        ("  emit('held', unknown)\n", "", "a lost hold is never held in the books"),
        ("  emit('paying', unknown)\n", "", "a lost hold is never in payment in the books"),
        ("  if arg.known == 0 then", "  if true then", "what the books know happens again"),
        ("  record[STATUS] = false\n", "", "units are not taken from what is for sale"),
        ("  command_writes[#command_writes + 1] = id\n  command_writes[#command_writes + 1] = 0\n", "", "commands happen again after a rebuild"),
    ),
]  # fmt: skip

READS: Final = [
    *_of(
        "show",
        ("'held', 'sold', 'limit', 'price', 'compare_at', 'currency', 'name', 'rev'})", "'sold', 'limit', 'price', 'compare_at', 'currency', 'name', 'rev'})", "some products are shown with nothing held"),
        ("if not arg.only then return answer('shown',", "if not arg.only then return answer('no_sale',", "the whole sale is not shown"),
        ("      stock[#stock + 1] = value\n", "      stock[#stock + 1] = redis.call('HGET', STOCK, fields[1])\n", "every figure is the first"),
    ),
    *_of(
        "peek",
        ("found[i] = record or ''", "found[i] = found[1] or ''", "every hold is the first"),
        ("if not exists then return answer('no_sale') end\n", "", "a lost sale has no holds"),
    ),
]  # fmt: skip

MUTANTS: Final = [
    *BOOK, *SALE, *HOLD, *CHECKOUT, *SETTLE, *RELEASE, *CANCEL, *RETAKE, *RESTOCK, *EXPIRE,
    *LOAD, *ADJUST, *CONTROL, *FENCE, *MEND, *TRIM, *REBUILD, *READS,
]  # fmt: skip
