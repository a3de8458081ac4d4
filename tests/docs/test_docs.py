"""Docs that cannot lie: what is documented exists, and what exists is documented."""

import ast
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

import click
import msgspec
import pytest

from api.app import PAGES, ROUTES
from api.docs import OPT, Doc
from api.metrics import Metrics
from cli.main import cli
from engine import keys
from engine.events import Kind
from engine.outcomes import OF_SCRIPT
from engine.settings import PREFIX, Settings
from payments.handlers import HANDLERS
from payments.tally import METRICS_KEY
from payments.wake import WAKE_KEY
from persistence import salefile
from persistence.refusals import PROBLEMS
from persistence.tables import metadata
from tests.docs.pages import anchors, codes, first_cells, links, page, pages, rows, sections
from tests.house.paths import ROOT, packages
from workers.queues import Kind as Slice
from workers.queues import queue_name
from workers.slots import slot_key

# --- commands


def commands(group: click.Group = cli, path: str = "flashsale") -> Iterator[tuple[str, click.Command]]:
    """Each command under its path with its arguments, as its heading has it."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")
        else:
            arguments = [each.make_metavar(context) for each in command.params if isinstance(each, click.Argument)]
            yield " ".join([f"{path} {name}", *arguments]), command


COMMANDS = dict(commands())


def test_every_command_is_documented_and_none_is_gone() -> None:
    documented = [heading.strip("`") for heading in sections(page("reference/commands.md"), 3)]
    assert sorted(documented) == sorted(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_documented_and_none_is_gone(name: str) -> None:
    options = [each for each in COMMANDS[name].params if isinstance(each, click.Option) and not each.hidden]
    section = sections(page("reference/commands.md"), 3)[f"`{name}`"]
    documented = {cells[0].strip("`"): cells[1].strip("`") for cells in rows(section)}
    assert sorted(documented) == sorted(option.opts[0] for option in options)
    for option in options:
        if option.show_default is True:
            assert documented[option.opts[0]] == str(option.default), "the default is another"


# --- routes


def routes() -> Iterator[tuple[str, Doc]]:
    for handler in ROUTES:
        doc = handler.opt[OPT]
        for method in [doc.method] if doc.method else handler.http_methods:
            for path in handler.paths:
                yield f"{method} " + re.sub(r":\w+", "", path), doc


DOCS = dict(routes())


def route_section(route: str) -> str:
    return sections(page("reference/routes.md"), 3)[f"`{route}`"]


def test_every_route_is_documented_and_none_is_gone() -> None:
    documented = [heading.strip("`") for heading in sections(page("reference/routes.md"), 3)]
    assert sorted(documented) == sorted(DOCS)


def test_every_page_is_documented_as_it_says_of_itself_and_none_is_gone() -> None:
    table = sections(page("reference/routes.md"), 2)["Pages"]
    said = {
        f"{method} " + re.sub(r":\w+", "", path): handler.opt["page"]
        for handler in PAGES
        for method in sorted(getattr(handler, "http_methods", ["GET"]))
        for path in handler.paths
    }
    assert {codes(cells[0])[0]: cells[1] for cells in rows(table)} == said


@pytest.mark.parametrize("route", DOCS)
def test_a_routes_answer_and_problems_are_as_it_says(route: str) -> None:
    doc, section = DOCS[route], route_section(route)
    status, _, answer = re.search(r"^- Answer: (.*)$", section, re.MULTILINE)[1].partition(", ")  # type: ignore[index]
    assert int(status) == doc.status
    if isinstance(doc.answer, type) and issubclass(doc.answer, msgspec.Struct):
        assert answer == f"`{doc.answer.__name__}`"
    problems = re.search(r"^- Problems: (.*)$", section, re.MULTILINE)
    assert codes(problems[1] if problems else "") == list(doc.codes)
    token = {"admin": "admin token", "shop": "shop token", "signature": "Stripe's signature", "": "none"}[doc.auth]
    assert f"Token: {token}" in section
    assert (" Keyed." in section) == doc.keyed
    for query in doc.query:
        assert f"`{query.name}`" in section, "a query parameter is missing"


@pytest.mark.parametrize("route", [name for name, doc in DOCS.items() if doc.body and doc.tag != "payments"])
def test_a_routes_body_is_as_it_says(route: str) -> None:
    body, section = DOCS[route].body, route_section(route)
    if "sale-file.md" in section:
        return  # a page of its own
    wanted = [(f"`{each.encode_name}`" + ("" if each.required else "?")) for each in msgspec.structs.fields(body)]
    found = re.search(r"^- Body: (.*)$", section, re.MULTILINE)
    assert (found[1] if found else "") == ", ".join(wanted)


def shapes_in(kind: Any) -> Iterator[type[msgspec.Struct]]:
    """The structs that an answer is made of."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        yield kind
        for hint in get_type_hints(kind).values():
            yield from shapes_in(hint)
    for part in get_args(kind):
        yield from shapes_in(part)


def test_every_shape_is_documented_with_its_fields() -> None:
    shapes = {shape for doc in DOCS.values() for shape in shapes_in(doc.answer)}
    table = sections(page("reference/routes.md"), 2)["Shapes"]
    documented = {codes(cells[0])[0]: codes(cells[1]) for cells in rows(table)}
    assert documented == {shape.__name__: list(shape.__struct_fields__) for shape in shapes}


# --- problems, settings, sale file


def test_every_problem_is_documented_and_none_is_gone() -> None:
    documented = {cells[0].strip("`"): int(cells[1]) for cells in rows(page("reference/problems.md"))}
    assert documented == {code: problem.status for code, problem in PROBLEMS.items()}


def test_every_setting_is_documented_with_its_default() -> None:
    table = page("reference/settings.md").partition("## URLs")[0]
    documented = {cells[0].strip("`"): cells[1].strip("`") for cells in rows(table)}
    assert documented == {PREFIX + each.name.upper(): str(each.default) for each in fields(Settings)}


def test_no_page_names_a_setting_that_is_none() -> None:
    for path in pages():
        named = set(re.findall(rf"{PREFIX}[A-Z_]*[A-Z]", path.read_text()))
        assert named <= set(Settings.names()), path.name


def test_every_field_of_a_sale_file_is_documented() -> None:
    found = sections(page("reference/sale-file.md"), 2)
    assert first_cells(found["The sale"]) == list(salefile.SaleFile.__struct_fields__)
    assert sorted(first_cells(found["A product"])) == sorted(salefile.FileProduct.__struct_fields__)


def test_the_bounds_of_a_sale_file_are_those_of_the_code() -> None:
    text = page("reference/sale-file.md")
    bounds = {name: value for name, value in vars(salefile).items() if re.search("_MAX(_|$)", name)}
    assert len(bounds) > 3
    for name, value in bounds.items():
        assert re.search(rf"\b{value}\b", text), f"{name} is {value}"


def test_the_example_of_a_sale_file_is_one() -> None:
    for path in (ROOT / "README.md", ROOT / "docs/reference/sale-file.md"):
        example = re.search(r'^\{"id".*?\}\]\}$', path.read_text(), re.MULTILINE | re.DOTALL)
        assert example, path.name
        assert salefile.parse(example[0].encode(), format="json").id == "black-friday"


# --- inside: keys, events, scripts, tables, metrics, logs


def redis_keys() -> set[str]:
    """Of a sale called `sale`, written with its braces, and product `P`."""
    return {*(name.replace("{{", "{") for name in keys.of_sale("sale", ["P"])), keys.PRODUCTS}


@pytest.mark.parametrize("name", ["architecture.md", "reference/redis.md"])
def test_every_key_is_documented_and_none_is_gone(name: str) -> None:
    documented = {key for key in first_cells(page(name)) if key.startswith("fs:")}
    assert documented - {WAKE_KEY, METRICS_KEY, slot_key(Slice.DRAIN, 0)} == redis_keys()


def test_the_keys_of_the_queue_are_documented() -> None:
    text = sections(page("reference/redis.md"), 2)["Keys"]
    wanted = {
        WAKE_KEY,
        METRICS_KEY,
        *(slot_key(kind, 0) for kind in Slice),
        *(f"rq:queue:{queue_name(kind)}" for kind in Slice),
    }
    assert wanted == {code for code in codes(text) if code.startswith(("fs:wake", "fs:metrics", "fs:slice", "rq:"))}


def test_every_kind_of_event_is_documented_and_none_is_gone() -> None:
    table = sections(page("architecture.md"), 2)["Events"]
    assert sorted(first_cells(table)) == sorted(Kind)
    assert sorted(codes(sections(page("reference/redis.md"), 2)["Events"])) == sorted(Kind)


def test_every_script_is_documented_with_its_answers_in_their_order() -> None:
    table = sections(page("reference/redis.md"), 2)["Scripts"]
    documented = {codes(cells[0])[0]: tuple(codes(cells[1])) for cells in rows(table)}
    assert documented == OF_SCRIPT
    assert set(documented) == {path.stem for path in (ROOT / "lua").glob("*.lua")}


def test_every_table_is_documented_and_none_is_gone() -> None:
    assert sorted(first_cells(sections(page("reference/redis.md"), 2)["Tables"])) == sorted(metadata.tables)
    named = set(codes(sections(page("architecture.md"), 2)["In Postgres"]))
    assert set(metadata.tables) <= named


def test_every_metric_is_documented_and_none_is_gone() -> None:
    found = {
        family.name + ("_total" if family.type == "counter" else ""): family.type
        for family in Metrics().registry.collect()
    }
    table = sections(page("reference/redis.md"), 2)["Metrics"]
    assert {codes(cells[0])[0]: cells[1] for cells in rows(table)} == found


LEVELS = ("debug", "info", "warning", "error", "exception", "critical")


def logged(package: str) -> Iterator[str]:
    """The events that a package logs, read from its code."""
    for path in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(
                    func=ast.Attribute(value=ast.Name(id="log"), attr=level), args=[ast.Constant(value=str(event)), *_]
                ) if level in LEVELS:
                    yield event


def test_every_log_event_is_documented_and_none_is_gone() -> None:
    table = sections(page("reference/redis.md"), 2)["Log events"]
    found = {event for package in packages() for event in logged(package)}
    assert set(first_cells(table)) == found


# --- payments and failures


def test_the_words_of_a_payment_are_those_of_the_tables() -> None:
    text = page("payments.md")
    due = first_cells(sections(text, 2)["What is due"])
    assert sorted(word for word in due if "." not in word) == _allowed("payments", "due")
    inbox = first_cells(sections(text, 2)["The inbox"])
    assert sorted(word for word in inbox if "." not in word) == _allowed("webhook_events", "status")


def _allowed(table: str, column: str) -> list[str]:
    """The words of a column's CHECK."""
    for constraint in metadata.tables[table].constraints:
        said = str(getattr(constraint, "sqltext", ""))
        if said.startswith(f"{column} IN"):
            return sorted(re.findall(r"'(\w+)'", said))
    raise LookupError(f"{table}.{column} has no list of words")


def test_every_type_of_webhook_that_is_handled_is_named() -> None:
    text = sections(page("payments.md"), 2)["The inbox"].rpartition("Handled types:")[2]
    assert sorted(codes(text)) == sorted(HANDLERS)


def names_of_tests() -> set[str]:
    """Every test function's name."""
    found = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        found |= set(re.findall(r"^\s*(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE))
    return found


def test_every_test_that_failures_name_exists_and_every_row_names_one() -> None:
    text = page("failures.md")
    named = {code for code in codes(text) if code.startswith("test_")}
    assert named <= names_of_tests(), "gone, or renamed"
    for cells in rows(text):
        assert len(cells) == 6, cells[0]
        assert "`test_" in cells[5] or "no test yet" in cells[5], cells[0]


def test_failures_name_only_problems_and_log_events_that_exist() -> None:
    known = {event for package in packages() for event in logged(package)} | set(PROBLEMS)
    cells = [cell for row in rows(page("failures.md")) for cell in (row[1], row[2])]
    named = {code for cell in cells for code in codes(cell) if re.fullmatch(r"[a-z]+(_[a-z]+)+", code)}
    columns = {column.name for table in metadata.tables.values() for column in table.columns}
    words = {"not_ready", "pending_order", "pending_payment", "set_aside", "webhook_events", "no_stranded_stock"}
    assert named <= known | columns | words


def test_the_log_leads_to_a_section_that_exists() -> None:
    source = (ROOT / "workers/fence.py").read_text()
    told = re.search(r'why="(.+?): see docs/failures\.md"', source)
    assert told
    assert told[1] in sections(page("failures.md"), 2)


def test_the_words_of_health_are_those_of_the_code() -> None:
    source = ast.parse((ROOT / "api/health.py").read_text())
    said = {node.value for node in ast.walk(source) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    shapes = {codes(cells[0])[0]: codes(cells[2]) for cells in rows(page("reference/routes.md")) if len(cells) == 3}
    assert set(shapes["Health"]) - {"status"} <= said
    assert set(codes(route_section("GET /health/ready"))) & {"ok", "away", "not migrated"} <= said


# --- links


@pytest.mark.parametrize("path", pages(), ids=lambda path: path.name)
def test_every_link_leads_somewhere(path: Path) -> None:
    for target in links(path):
        name, _, anchor = target.partition("#")
        leads_to = (path.parent / name).resolve() if name else path
        assert leads_to.exists(), f"{target} does not exist"
        if anchor:
            assert anchor in anchors(leads_to), f"{target} has no such heading"


@pytest.mark.parametrize("path", pages(), ids=lambda path: path.name)
def test_every_command_that_a_page_types_exists(path: Path) -> None:
    known = {words for name in COMMANDS for words in _prefixes(name)}
    for typed in re.findall(r"(?:^|[`/ ])flashsale ((?:[a-z]+ ?)+)", path.read_text(), re.MULTILINE):
        words = typed.split()
        assert any(" ".join(words[:count]) in known for count in (1, 2)), f"flashsale {typed}"


def _prefixes(name: str) -> list[str]:
    words = [word for word in name.split()[1:] if word.islower()]
    return [" ".join(words)]
