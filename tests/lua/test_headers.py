"""A script's header is its contract: what it says is held against the Python side and against the script itself."""

import re
from importlib.resources import files

import pytest

import lua
from engine.outcomes import OF_SCRIPT

WORD = re.compile(r"^--   \{?'(\w+)'", re.MULTILINE)


def test_every_script_has_outcomes() -> None:
    assert set(lua.names()) == set(OF_SCRIPT)


@pytest.mark.parametrize("name", lua.names())
def test_header_lists_the_outcomes_in_the_order_of_the_checks(name: str) -> None:
    assert WORD.findall(lua.script(name).source) == [str(word) for word in OF_SCRIPT[name]]


@pytest.mark.parametrize("name", lua.names())
def test_header_has_purpose_keys_arguments_and_returns(name: str) -> None:
    lines = lua.script(name).source.splitlines()
    assert lines[0].startswith("#!lua")
    assert lines[1].startswith(f"-- {name}: ")
    header = "\n".join(line for line in lines if line.startswith("--"))
    for part in ("-- KEYS: the sale's seven", "-- ARGV[1] mark", "ARGV[2] packed {", "-- Returns {epoch, seq, now_ms"):
        assert part in header


@pytest.mark.parametrize("name", lua.names())
def test_every_outcome_is_answered_and_no_other(name: str) -> None:
    own = (files("lua") / f"{name}.lua").read_text()  # without what it includes
    body = re.sub(r"--.*", "", own)
    answered = set(re.findall(r"(?:answer\(|return |(?:return|=|or) \{)'(\w+)'", body))
    computed = {"expired", "released", "returned"} if name in ("release", "cancel") else set()
    assert answered | computed >= {str(word) for word in OF_SCRIPT[name]} - computed
    assert answered <= {str(word) for word in OF_SCRIPT[name]}


@pytest.mark.parametrize("name", lua.names())
def test_arguments_named_in_the_header_are_read_and_no_others(name: str) -> None:
    source = lua.script(name).source
    packed = re.search(r"ARGV\[2\] packed \{([^}]*)\}", source)
    assert packed
    declared = {word.strip() for word in packed[1].split(",")}
    if name in ("hold", "load"):  # their long lists break off before the shapes of their items
        declared = {word for word in declared if re.fullmatch(r"\w+", word)}
    read = set(re.findall(r"\barg\.(\w+)", re.sub(r"--.*", "", source)))
    assert read - {"products"} <= declared
    assert declared - {"products"} <= read | {"name", "starts_ms", "ends_ms", "hold_ttl_ms", "payment_ttl_ms"}


@pytest.mark.parametrize("name", lua.names())
def test_no_script_builds_a_key(name: str) -> None:
    body = re.sub(r"--.*", "", lua.script(name).source)
    for command, key in re.findall(r"redis\.call\('(\w+)',? ?([A-Za-z_\[\]]*)", body):
        if command != "TIME":
            assert key in {
                "SALE",
                "STOCK",
                "HOLDS",
                "CUSTOMERS",
                "PAYMENTS",
                "EVENTS",
                "COMMANDS",
                "deadlines[id]",
            } or (
                name == "reset" and key == "unpack"  # it drops all the keys that it was given
            ), (command, key)
