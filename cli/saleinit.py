"""The sale file that `flashsale sale init` writes: commented, and loadable as it is."""

from datetime import datetime, timedelta

from persistence.saleschema import PATH

TEMPLATE = """\
# yaml-language-server: $schema=http://127.0.0.1:8000{schema}
# A sale. `flashsale sale load FILE --dry-run` says what it would change, and `flashsale sale load FILE` loads it.
# The same file again changes nothing.

# In URLs and in the ids of holds and orders: 1 to 64 of A-Z a-z 0-9 . _ -
id: {id}
name: {name}

# When holds may be taken, with the offset from UTC. Leave out starts_at: at once. Leave out ends_at: until it is ended.
starts_at: "{starts_at}"
ends_at: "{ends_at}"

# How long a hold lasts, and the one payment period that a check-out gets, in seconds.
hold_ttl_seconds: 120
payment_ttl_seconds: 300

products:
  - id: sneaker-42
    name: Sneaker 42
    # In minor units: 12900 is 129.00 usd. A change counts for holds made after it.
    price: {{amount: 12900, currency: usd}}
    # The price before the sale, for the shop to show. May be left out.
    compare_at_price: {{amount: 19900, currency: usd}}
    # Units in all. A later file's difference to this one is added or taken.
    stock: 500
    # Units that one customer may hold and buy.
    per_customer_limit: 2
"""


def template(sale_id: str, now: datetime) -> str:
    """A sale that starts in a day, on the hour, and lasts for eight hours."""
    starts_at = (now + timedelta(days=1)).replace(minute=0, second=0, microsecond=0)
    return TEMPLATE.format(
        schema=PATH,
        id=sale_id,
        name=" ".join(word.capitalize() for word in sale_id.replace("_", "-").split("-") if word) or sale_id,
        starts_at=f"{starts_at:%Y-%m-%dT%H:%M:%SZ}",
        ends_at=f"{starts_at + timedelta(hours=8):%Y-%m-%dT%H:%M:%SZ}",
    )
