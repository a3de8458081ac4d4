"""Python's collector of circles, kept off the hot path: what a hold leaves behind is freed by its counts, so looking
for circles after every 700 objects costs a third of a hold and finds nothing.
"""

import gc
from typing import Final

YOUNG_MAX: Final = 20_000
"""Objects that may come before the young ones are looked through: some hundred requests under way, and a look takes
a millisecond or two.
"""


def rest() -> None:
    """Call it once all that lives as long as the process is there: that is never looked through again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_MAX, *gc.get_threshold()[1:])
