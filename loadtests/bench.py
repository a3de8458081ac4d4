"""``make bench``: every figure in one go, on servers of its own, with nothing left running afterwards.

Exit status 0; 1 where an invariant broke or a figure could not be taken (a goal that was missed is told, and is no
failure); 2 where something that the bench needs is missing.
"""

import argparse
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from loadtests import draining, latency, paid, peaks, peer_postgres, promises, scale, wrk
from loadtests.plan import FULL, QUICK, Bench
from loadtests.report import Report
from loadtests.serving import end_on_sigterm, served
from loadtests.stage import Stage
from sandbox.failure import ServerError

DEFAULT_OUT: Final = Path(__file__).with_name("report")

FIGURES: Final[dict[str, Callable[[Bench], None]]] = {
    "rush": promises.rush,
    "contested": promises.contested,
    "abandoned": promises.abandoned,
    "drain": draining.alone,
    "drain-rate": draining.at_a_rate,
    "holds": peaks.holds_per_second,
    "holds-workers": peaks.holds_with_workers,
    "postgres": peaks.against_postgres,
    "paid": paid.end_to_end,
    "sold-out": peaks.sold_out,
    "reads": peaks.product_reads,
    "latency": latency.at_a_rate,
    "redis-cpu": scale.redis_cpu,
    "drain-full": draining.at_full_rate,
    "million": scale.many_holds,
    "connections": peaks.by_connections,
}


def main(argv: list[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    unknown = [name for name in options.only or () if name not in FIGURES]
    if unknown:
        print(f"bench: no such figure: {', '.join(unknown)}; there are {', '.join(FIGURES)}", file=sys.stderr)
        return 2
    end_on_sigterm()
    try:
        wrk.require()
        report = _measure(options)
    except (wrk.WrkMissing, ServerError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    report.write(options.out)
    report.print()
    print(f"written to {options.out}")
    return 1 if report.broken else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make bench", description="The figures of the README, measured here.")
    parser.add_argument("--quick", action="store_true", help="small sizes and one round: does everything run?")
    parser.add_argument("--only", action="append", metavar="NAME", help=f"one of {', '.join(FIGURES)}; may be repeated")
    parser.add_argument("--rounds", type=int, choices=range(1, 21), metavar="N", help="rounds of each figure")
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, help="where JSON, table and charts go")
    return parser


def _measure(options: argparse.Namespace) -> Report:
    sizes = QUICK if options.quick else FULL
    if options.rounds:
        sizes = replace(sizes, rounds=options.rounds)
    report = Report(quick=options.quick, rounds=sizes.rounds)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="flashsale-bench-")))
        environ = [name for name in os.environ if name.startswith("FLASHSALE_")]
        for name in environ:  # the bench measures its own servers, whatever else is configured
            del os.environ[name]
        stage = stack.enter_context(Stage(folder))
        port = stack.enter_context(served("loadtests.yardstick", folder, processes=stage.api_processes))
        peer: list[int] = []

        def peer_port() -> int:
            if not peer:
                peer.append(stack.enter_context(_peer(stage, folder)))
            return peer[0]

        bench = Bench(stage, port, peer_port, sizes, report)
        for name in options.only or FIGURES:
            began = time.monotonic()
            bench.say(f"{name} ...")
            _take(bench, name)
            bench.say(f"  ({time.monotonic() - began:.0f} s)")
    return report


def _take(bench: Bench, name: str) -> None:
    """A figure that cannot be taken is told; the others are still measured."""
    try:
        FIGURES[name](bench)
    except Exception as error:  # noqa: BLE001
        bench.broke([f"{name} could not be measured: {type(error).__name__}: {error}"])
        bench.stage.stop_workers()


def _peer(stage: Stage, folder: Path) -> contextlib.AbstractContextManager[int]:
    with stage.db.begin() as conn:
        conn.exec_driver_sql(peer_postgres.SCHEMA)
    return served(
        "loadtests.peer_postgres",
        folder,
        processes=stage.api_processes,
        env={"PEER_DATABASE_URL": stage.postgres.url},
        probe="/health",
    )


if __name__ == "__main__":
    sys.exit(main())
