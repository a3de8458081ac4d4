"""Names of Redis keys. Every key of a sale carries the tag ``{sale}``, so that a sale is one hash slot; no script
builds a name.
"""

from collections.abc import Iterable

PRODUCTS = "fs:products"
"""Hash: product -> the sale that it is in. A slot of its own: read by every process, never by a script."""


def sale(sale_id: str) -> str:
    return f"fs:{{{sale_id}}}:sale"


def stock(sale_id: str) -> str:
    return f"fs:{{{sale_id}}}:stock"


def holds(sale_id: str) -> str:
    return f"fs:{{{sale_id}}}:holds"


def customers(sale_id: str) -> str:
    return f"fs:{{{sale_id}}}:customers"


def payments(sale_id: str) -> str:
    return f"fs:{{{sale_id}}}:payments"


def events(sale_id: str) -> str:
    return f"fs:{{{sale_id}}}:events"


def commands(sale_id: str) -> str:
    return f"fs:{{{sale_id}}}:commands"


def deadlines(sale_id: str, product_id: str) -> str:
    return f"fs:{{{sale_id}}}:deadlines:{product_id}"


def of_sale(sale_id: str, products: Iterable[str] = ()) -> list[str]:
    """The keys that every script gets, in the order that ``lua/lib/sale.lua`` reads them in."""
    names = (sale, stock, holds, customers, payments, events, commands)
    return [name(sale_id) for name in names] + [deadlines(sale_id, product) for product in products]
