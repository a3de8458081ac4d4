"""How long a hold takes from Redis's script to its row in Postgres, for every hold of a run."""

import threading
import time
from bisect import bisect_left
from collections.abc import Sequence
from typing import Self

from sqlalchemy import Engine, text

SAMPLE_SECONDS = 0.005
"""How often the cursor is looked at: lags are told this much too long at most."""


class LagSampler:
    """Between its beginning and its end it writes down when Postgres had which event of a sale."""

    def __init__(self, db: Engine, sale_id: str) -> None:
        self._db = db
        self._sale_id = sale_id
        self._stop = threading.Event()
        self._seqs: list[int] = []
        self._times: list[float] = []
        self._thread = threading.Thread(target=self._sample, name="lag", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        query = text("SELECT seq FROM cursors WHERE sale_id = :sale")
        with self._db.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
            while not self._stop.wait(SAMPLE_SECONDS):
                seq = conn.execute(query, {"sale": self._sale_id}).scalar_one()
                if not self._seqs or seq > self._seqs[-1]:
                    self._seqs.append(seq)
                    self._times.append(time.time())

    def seen_at(self, seq: int) -> float | None:
        """When the event was first seen in Postgres; None: never."""
        at = bisect_left(self._seqs, seq)
        return self._times[at] if at < len(self._seqs) else None

    def lags(self) -> list[tuple[float, float, int]]:
        """(when it was taken, seconds until its row was there, how many) for the holds of each event, in their order.
        Call it once all is drained.
        """
        query = text(
            "SELECT seq, extract(epoch FROM created_at)::float8 AS taken, count(*) AS holds FROM holds"
            " WHERE sale_id = :sale GROUP BY seq, created_at ORDER BY seq"
        )
        found = []
        with self._db.connect() as conn:
            for seq, taken, holds in conn.execute(query, {"sale": self._sale_id}):
                seen = self.seen_at(seq)
                if seen is not None:
                    found.append((taken, max(seen - taken, 0.0), holds))
        return found

    def lag_seconds(self) -> list[float]:
        """One number a hold."""
        return [lag for _, lag, holds in self.lags() for _ in range(holds)]


def by_second(lags: Sequence[tuple[float, float, int]]) -> list[tuple[float, float]]:
    """The longest lag of each half second of a run, by the time at which the holds were taken."""
    if not lags:
        return []
    begin = lags[0][0]
    longest: dict[float, float] = {}
    for taken, lag, _ in lags:
        at = int((taken - begin) * 2) / 2
        longest[at] = max(longest.get(at, 0.0), lag)
    return sorted(longest.items())
