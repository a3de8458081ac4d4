"""SQL that runs for every order. SQLAlchemy would look through it and its parameters each time anew: that is half of
what a statement costs in this process.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Connection, CursorResult

_PARAMETER: Final = re.compile(r"(?<![:\w]):(\w+)")


@dataclass(frozen=True, slots=True)
class Statement:
    """``sql`` names its parameters as ``text`` does, ``:ids``, and casts arrays to their types. psycopg gets it as it
    is; transactions, errors and traces stay SQLAlchemy's.
    """

    sql: str
    _said: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_said", _PARAMETER.sub(r"%(\1)s", self.sql.replace("%", "%%")))

    def on(self, conn: Connection, parameters: Mapping[str, Any]) -> CursorResult[*tuple[Any, ...]]:
        return conn.exec_driver_sql(self._said, dict(parameters))
