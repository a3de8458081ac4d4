"""Read RQ's jobs as input from outside: who may write to the queue's Redis chooses every byte of them.

RQ imports the function and the callbacks that a job names, calls its webhooks, and unpickles its data, so such a person
would run code in a process that holds Stripe's key. Here a job is a name of ``FUNCTIONS`` and the name of a kind, as
JSON. A job that asks for more is dropped, and what RQ acts on is never read.
"""

import json
import zlib
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from importlib import import_module
from typing import Any, Final

import redis
from rq.exceptions import NoSuchJobError
from rq.job import Job
from rq.serializers import JSONSerializer


class Kind(StrEnum):
    """What a slice does."""

    DRAIN = "drain"
    """Redis's events into Postgres."""
    SWEEP = "sweep"
    """Overdue holds back on sale."""
    PAYMENTS = "payments"
    """Stored payment events, and what is owed to the provider."""


SLICE_JOB: Final = "slice"
FUNCTIONS: Final = {SLICE_JOB: ("workers.slices", "run_job")}
"""What a job may name, and where it is. Each takes the name of a kind."""

ID_BYTES_MAX: Final = 64
FIELDS_MAX: Final = 64
JOB_BYTES_MAX: Final = 16 * 1024
"""What a job's hash may take in Redis. Ours take about one KiB."""
DATA_BYTES_MAX: Final = 512

ACTIONS: Final = (
    "success_callback_name", "failure_callback_name", "stopped_callback_name", "webhooks", "dependency_id",
    "dependency_ids", "meta", "result", "group_id", "rate_limit_key", "rate_limit_concurrency", "retries_left",
    "retry_intervals", "repeats_left", "repeat_intervals",
)  # fmt: skip
"""Fields that RQ acts on, or unpickles. Ours are empty."""
READ: Final = ("data", "origin")
"""Fields that reach RQ's own code. What a later version of RQ adds does not, so nothing acts on it."""


class JobRefused(NoSuchJobError):
    """A job that is not one of ours. To RQ it is one that does not exist, so it passes on to the next."""


class WakeJob(Job):
    """A wake-up, read by ``READ`` alone. Every way to load one raises ``JobRefused`` where it is none of ours."""

    def __init__(
        self,
        id: str | None = None,  # noqa: A002  # RQ's name
        connection: redis.Redis | None = None,
        serializer: Any = None,
    ) -> None:
        super().__init__(id, connection, serializer or JSONSerializer)

    def refresh(self) -> None:
        self.restore(read_hash(self.connection, self.key))

    def restore(self, raw_data: Mapping[Any, Any]) -> None:
        given = {_text(name): value for name, value in raw_data.items()}
        check(given)
        super().restore({name.encode(): given[name] for name in READ if given.get(name)})

    @property
    def func(self) -> Callable[[str], None]:
        """The function that ``FUNCTIONS`` has for the name. It is imported late: slices enqueue jobs themselves."""
        module, name = FUNCTIONS[str(self.func_name)]
        found: Callable[[str], None] = getattr(import_module(module), name)
        return found

    @property
    def success_callback(self) -> None:
        return None

    @property
    def failure_callback(self) -> None:
        return None

    @property
    def stopped_callback(self) -> None:
        return None

    @classmethod
    def fetch_many(cls, job_ids: Iterable[str], connection: redis.Redis, serializer: Any = None) -> list[Job | None]:
        found: list[Job | None] = []
        for job_id in job_ids:
            try:
                found.append(cls.fetch(job_id, connection, serializer))
            except NoSuchJobError:
                found.append(None)
        return found


def load(connection: redis.Redis, raw_id: bytes) -> WakeJob:
    """Read the job of an entry of a queue. Raises ``NoSuchJobError`` where it is gone, its subclass ``JobRefused``
    with the reason where it is none of ours, and ``RedisError`` where Redis is away.
    """
    if len(raw_id) > ID_BYTES_MAX:
        raise JobRefused(f"has an id of {len(raw_id)} bytes")
    try:
        job = WakeJob.fetch(raw_id.decode(), connection)
    except NoSuchJobError:
        raise
    except ValueError as error:
        raise JobRefused("has an id that RQ gives no job") from error
    assert isinstance(job, WakeJob)
    return job


def read_hash(connection: redis.Redis, key: str) -> dict[Any, Any]:
    """A job's hash, of bounded size. Raises ``NoSuchJobError``."""
    try:
        fields: Any = connection.hlen(key)
        if not fields:
            raise NoSuchJobError(f"there is no job {key}")
        if fields > FIELDS_MAX:
            raise JobRefused(f"has {fields} fields")
        size: Any = connection.memory_usage(key, samples=0)
        if size and size > JOB_BYTES_MAX:
            raise JobRefused(f"takes {size} bytes")
        found: Any = connection.hgetall(key)
    except redis.exceptions.ResponseError as error:
        if str(error).startswith("WRONGTYPE"):
            raise JobRefused("is no hash") from error
        raise
    if not found:
        raise NoSuchJobError(f"there is no job {key}")
    return dict(found)


def check(fields: Mapping[str, Any]) -> None:
    """Raises ``JobRefused`` for a job that asks for more than a slice of a kind."""
    if len(fields) > FIELDS_MAX or sum(len(value) for value in fields.values()) > JOB_BYTES_MAX:
        raise JobRefused("is larger than any of ours")
    for name in ACTIONS:
        if fields.get(name):
            raise JobRefused(f"has a {name}")
    call = _data(fields.get("data"))
    if not (isinstance(call, list) and len(call) == 4):
        raise JobRefused("has data that is no call")
    function, instance, args, kwargs = call
    if not isinstance(function, str) or function not in FUNCTIONS:
        raise JobRefused(f"names the function {str(function)[:64]!r}")
    if instance is not None or kwargs != {}:
        raise JobRefused("has arguments by name, or an object to call a method of")
    if not isinstance(args, list) or len(args) != 1 or not isinstance(args[0], str) or args[0] not in list(Kind):
        raise JobRefused("has other arguments than the name of a kind")


def _data(raw: object) -> object:
    """What is in ``data``: JSON, compressed or not, of bounded size both ways."""
    if not isinstance(raw, bytes) or len(raw) > DATA_BYTES_MAX:
        raise JobRefused("has no data, or too much")
    unpacked = raw
    try:
        inflater = zlib.decompressobj()
        unpacked = inflater.decompress(raw, DATA_BYTES_MAX)
        if inflater.unconsumed_tail:
            raise JobRefused("has more data than it may")
    except zlib.error:
        pass  # it is not compressed: RQ takes that too
    try:
        found: object = json.loads(unpacked)
    except (ValueError, RecursionError) as error:
        raise JobRefused("has data that is no JSON") from error
    return found


def _text(name: object) -> str:
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
