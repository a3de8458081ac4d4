"""What must be true whatever was done to a sale. Each function tells every breach in words; an empty list is good."""

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Engine, text

from engine import ids
from engine.command import Client, run
from engine.commands import peek, show


def redis_counters(client: Client, sale_id: str) -> list[str]:
    """For every product ``available + held + sold = total``, none below zero."""
    shown = run(client, show(sale_id))
    if shown.sale is None:
        return [f"sale {sale_id} is not in Redis"]
    return [
        f"product {each.id}: total {each.total}, available {each.available}, held {each.held}, sold {each.sold}"
        for each in shown.products.values()
        if each.available + each.held + each.sold != each.total or min(each.available, each.held, each.sold) < 0
    ]


def stores_agree(client: Client, db: Engine, sale_id: str) -> list[str]:
    """Postgres, once it is drained, has the counters that Redis has."""
    shown = run(client, show(sale_id))
    with db.connect() as conn:
        query = text("SELECT id, total, held, sold FROM products WHERE sale_id = :sale")
        kept = {row.id: (row.total, row.held, row.sold) for row in conn.execute(query, {"sale": sale_id})}
    return [
        f"product {each.id}: (total, held, sold) {(each.total, each.held, each.sold)}, Postgres {kept.get(each.id)}"
        for each in shown.products.values()
        if kept.get(each.id) != (each.total, each.held, each.sold)
    ]


def holds_exist(client: Client, db: Engine, sale_id: str, hold_ids: Iterable[str]) -> list[str]:
    """Every hold that an answer named is in Redis and in Postgres."""
    named = list(hold_ids)
    if len(set(named)) != len(named):
        return ["two answers named one hold"]
    if not named:
        return []
    tokens = [hold_id[-ids.TOKEN_LENGTH :] for hold_id in named]
    _, records = run(client, peek(sale_id, tokens))
    with db.connect() as conn:
        kept = set(conn.execute(text("SELECT id FROM holds WHERE id = ANY(:ids)"), {"ids": named}).scalars())
    missing = [f"{hold_id} is not in Redis" for hold_id, record in zip(named, records, strict=True) if record is None]
    return missing + [f"{hold_id} is not in Postgres" for hold_id in named if hold_id not in kept]


def only(answers: Mapping[str, int], *allowed: str) -> list[str]:
    """No answer but these, written as ``409 sold_out``."""
    return [f"{number} answers were {said}" for said, number in answers.items() if said not in allowed]


def reconciled(env: Mapping[str, str], sale_id: str) -> tuple[list[str], Any]:
    """What ``flashsale reconcile`` finds, and its report."""
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", "reconcile", sale_id, "--json"],
        env=dict(env),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    try:
        report = json.loads(done.stdout)
    except ValueError:
        return [f"reconcile could not compare (exit {done.returncode}): {done.stderr.strip()[-300:]}"], None
    if done.returncode == 0 and report["consistent"]:
        return [], report
    return [f"reconcile found drift (exit {done.returncode}): {json.dumps(report['drift'][:5])}"], report
