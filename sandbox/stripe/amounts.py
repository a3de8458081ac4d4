"""Amounts and currencies: Stripe's limits, and its way to write money in a message."""

from sandbox.stripe.errors import invalid

AMOUNT_MAX = 99_999_999
ZERO_DECIMAL = frozenset(
    ["bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "ugx", "vnd", "vuv", "xaf", "xof", "xpf"]
)
SYMBOLS = {"usd": "$", "eur": "€", "gbp": "£", "jpy": "¥"}
# https://stripe.com/docs/currencies#minimum-and-maximum-charge-amounts; 50 where Stripe names none.
MINIMUM = {
    "gbp": 30, "aed": 200, "bgn": 100, "czk": 1500, "dkk": 250, "hkd": 400, "huf": 17500, "mxn": 1000, "myr": 200,
    "nok": 300, "pln": 200, "ron": 200, "sek": 300, "thb": 1000,
}  # fmt: skip
CURRENCIES = frozenset((
    "usd", "aed", "afn", "all", "amd", "ang", "aoa", "ars", "aud", "awg", "azn", "bam", "bbd", "bdt", "bgn",
    "bif", "bmd", "bnd", "bob", "brl", "bsd", "bwp", "byn", "bzd", "cad", "cdf", "chf", "clp", "cny", "cop",
    "crc", "cve", "czk", "djf", "dkk", "dop", "dzd", "egp", "etb", "eur", "fjd", "fkp", "gbp", "gel", "gip",
    "gmd", "gnf", "gtq", "gyd", "hkd", "hnl", "htg", "huf", "idr", "ils", "inr", "isk", "jmd", "jpy", "kes",
    "kgs", "khr", "kmf", "krw", "kyd", "kzt", "lak", "lbp", "lkr", "lrd", "lsl", "mad", "mdl", "mga", "mkd",
    "mmk", "mnt", "mop", "mur", "mvr", "mwk", "mxn", "myr", "mzn", "nad", "ngn", "nio", "nok", "npr", "nzd",
    "pab", "pen", "pgk", "php", "pkr", "pln", "pyg", "qar", "ron", "rsd", "rub", "rwf", "sar", "sbd", "scr",
    "sek", "sgd", "shp", "sle", "sos", "srd", "std", "szl", "thb", "tjs", "top", "try", "ttd", "twd", "tzs",
    "uah", "ugx", "uyu", "uzs", "vnd", "vuv", "wst", "xaf", "xcd", "xcg", "xof", "xpf", "yer", "zar", "zmw",
))  # fmt: skip


def written(amount: int, currency: str) -> str:
    """1099, "usd" -> "$10.99"."""
    symbol = SYMBOLS.get(currency, "")
    if currency in ZERO_DECIMAL:
        return f"{symbol}{amount:,}"
    return f"{symbol}{amount // 100:,}.{amount % 100:02d}"


def checked_currency(currency: str) -> str:
    lower = currency.lower()
    if lower not in CURRENCIES:
        raise invalid(
            f"Invalid currency: {currency[:32]}. Stripe currently supports these currencies: "
            f"{', '.join(sorted(CURRENCIES))}",
            "currency",
        )
    return lower


def checked_amount(amount: int, currency: str) -> int:
    """An amount to charge: at least the currency's minimum, at most 99,999,999."""
    positive(amount, "amount")
    least = MINIMUM.get(currency, 50)
    if amount < least:
        raise invalid(f"Amount must be at least {written(least, currency)} {currency}", "amount", "amount_too_small")
    if amount > AMOUNT_MAX:
        raise invalid(
            f"Amount must be no more than {written(AMOUNT_MAX, currency)} {currency}",
            "amount",
            "amount_too_large",
        )
    return amount


def positive(amount: int, param: str) -> int:
    if amount < 1:
        raise invalid("This value must be greater than or equal to 1.", param, "parameter_invalid_integer")
    return amount
