"""Where the stand-in keeps everything: one SQLite file, or memory. What was answered survives a SIGKILL."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from sandbox.stripe.records import Record, pack

SCHEMA = """
CREATE TABLE IF NOT EXISTS records (kind TEXT, seq INTEGER, id TEXT, body BLOB, PRIMARY KEY (kind, seq))
  WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS events (seq INTEGER PRIMARY KEY, id TEXT UNIQUE, type TEXT, created INTEGER,
  body BLOB, state TEXT, attempts INTEGER DEFAULT 0);
CREATE INDEX IF NOT EXISTS events_open ON events (seq) WHERE state = 'pending';
CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, path TEXT, digest BLOB, at INTEGER, status INTEGER,
  body BLOB, request_id TEXT);
CREATE TABLE IF NOT EXISTS movements (seq INTEGER PRIMARY KEY, intent TEXT, charge TEXT, kind TEXT,
  amount INTEGER, currency TEXT, at INTEGER);
"""


class Answer(NamedTuple):
    """The answer that an idempotency key remembers."""

    path: str
    digest: bytes
    at: int
    status: int
    body: bytes
    request_id: str


class StoredEvent(NamedTuple):
    """`state` of its webhook: none (no target then), pending, delivered, dropped or failed."""

    seq: int
    id: str
    type: str
    created: int
    body: bytes
    state: str
    attempts: int


class Movement(NamedTuple):
    intent: str
    charge: str
    kind: str
    amount: int
    currency: str
    at: int


_EVENT = "seq, id, type, created, body, state, attempts"


class Store:
    """Writes are durable (against the process's own death) from `commit` on. Records and movements are read at the
    start only, so those of a commit are written together at its end, and a record once for all that changed it.
    """

    def __init__(self, data_dir: Path | None) -> None:
        """Raises `BlockingIOError` where another stand-in has the folder."""
        name = ":memory:"
        if data_dir is not None:
            data_dir.mkdir(parents=True, exist_ok=True)
            name = str(data_dir / "stripe.sqlite3")
        self._db = sqlite3.connect(name, isolation_level=None, cached_statements=64, timeout=0.5)
        try:
            # One process owns the file; without a flush to disk, for only the machine's own fall could lose it.
            self._db.executescript(
                "PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF;"
                "PRAGMA cache_size=-16000;" + SCHEMA
            )
            self._db.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            raise BlockingIOError(f"{name}: {error}; does another stand-in use this folder?") from error
        self._changed: dict[tuple[str, int], Record] = {}
        self._moved: list[Movement] = []

    def commit(self) -> None:
        self._end()
        self._db.execute("BEGIN IMMEDIATE")

    def close(self) -> None:
        self._end()
        self._db.close()

    def _end(self) -> None:
        if self._changed:
            rows = [(*place, record.id, pack(record)) for place, record in self._changed.items()]
            self._db.executemany("INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?)", rows)
            self._changed.clear()
        if self._moved:
            self._db.executemany(
                "INSERT INTO movements (intent, charge, kind, amount, currency, at) VALUES (?, ?, ?, ?, ?, ?)",
                self._moved,
            )
            self._moved.clear()
        self._db.execute("COMMIT")

    def put(self, kind: str, record: Record) -> None:
        self._changed[kind, record.seq] = record

    def records(self, kind: str) -> Iterator[bytes]:
        rows = self._db.execute("SELECT body FROM records WHERE kind = ? ORDER BY seq", (kind,))
        return (body for (body,) in rows)

    # -- money
    def add_movement(self, movement: Movement) -> None:
        self._moved.append(movement)

    def movements(self) -> Iterator[Movement]:
        rows = self._db.execute("SELECT intent, charge, kind, amount, currency, at FROM movements ORDER BY seq")
        return (Movement(*row) for row in rows)

    # -- events
    def add_event(self, identifier: str, kind: str, created: int, body: bytes, state: str) -> int:
        row = self._db.execute(
            "INSERT INTO events (id, type, created, body, state) VALUES (?, ?, ?, ?, ?)",
            (identifier, kind, created, body, state),
        )
        assert row.lastrowid is not None
        return row.lastrowid

    def event(self, key: "int | str") -> StoredEvent | None:
        """By its place (int) or its id (str)."""
        column = "seq" if isinstance(key, int) else "id"
        row = self._db.execute(f"SELECT {_EVENT} FROM events WHERE {column} = ?", (key,)).fetchone()  # noqa: S608
        return None if row is None else StoredEvent(*row)

    def set_event(self, seq: int, state: str, attempts: int) -> None:
        self._db.execute("UPDATE events SET state = ?, attempts = ? WHERE seq = ?", (state, attempts, seq))

    def events_in(self, *states: str) -> list[int]:
        marks = ", ".join("?" * len(states))
        rows = self._db.execute(f"SELECT seq FROM events WHERE state IN ({marks}) ORDER BY seq", states)  # noqa: S608
        return [seq for (seq,) in rows]

    def events_where(self, clauses: list[str], values: list[object], *, limit: int, upward: bool) -> list[StoredEvent]:
        """`clauses` are this package's own SQL, `values` what stands in them; newest first unless `upward`."""
        where = f"WHERE {' AND '.join(clauses)}" if clauses else ""
        order = "ASC" if upward else "DESC"
        query = f"SELECT {_EVENT} FROM events {where} ORDER BY seq {order} LIMIT ?"  # noqa: S608
        return [StoredEvent(*row) for row in self._db.execute(query, [*values, limit])]

    def count_events(self) -> dict[str, int]:
        return dict(self._db.execute("SELECT state, count(*) FROM events GROUP BY state").fetchall())

    # -- idempotency
    def answer(self, key: str, since: int) -> Answer | None:
        row = self._db.execute(
            "SELECT path, digest, at, status, body, request_id FROM answers WHERE key = ? AND at > ?",
            (key, since),
        ).fetchone()
        return None if row is None else Answer(*row)

    def keep_answer(self, key: str, answer: Answer) -> None:
        self._db.execute("INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?, ?, ?)", (key, *answer))

    def drop_answers(self, before: int) -> None:
        self._db.execute("DELETE FROM answers WHERE at <= ?", (before,))
