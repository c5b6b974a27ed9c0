"""The schemas that editors read beside the script's files: kept, whole, and about these files."""

import json
import tomllib
from datetime import date
from typing import Any

import jsonschema_rs
import pytest

from ivr.script_files import DEFAULT_FOLDER
from ivr.script_schemas import FOLDER, schemas, text

SCHEMAS = dict(schemas())
FILES = sorted(path.stem for path in DEFAULT_FOLDER.glob("*.toml"))


def test_every_file_has_one() -> None:
    assert sorted(SCHEMAS) == FILES
    assert sorted(path.stem for path in (DEFAULT_FOLDER / FOLDER).iterdir()) == FILES


@pytest.mark.parametrize("name", FILES)
def test_what_is_kept_is_what_the_tables_say(name: str) -> None:
    """After a change: python -m ivr.script_schemas."""
    kept = (DEFAULT_FOLDER / FOLDER / f"{name}.json").read_text("utf-8")
    assert kept == text(SCHEMAS[name])


@pytest.mark.parametrize("name", FILES)
def test_a_file_names_its_schema_on_its_first_line(name: str) -> None:
    first, _, _ = (DEFAULT_FOLDER / f"{name}.toml").read_text("utf-8").partition("\n")
    assert first == f"#:schema ./{FOLDER}/{name}.json"


def faults(name: str, toml: str) -> list[str]:
    """Give what an editor marks; it reads dates as texts."""
    validator = jsonschema_rs.validator_for(json.loads(text(SCHEMAS[name])))
    return [fault.message for fault in validator.iter_errors(_as_json(tomllib.loads(toml)))]


@pytest.mark.parametrize("name", FILES)
def test_the_script_as_it_ships_has_no_fault(name: str) -> None:
    assert faults(name, (DEFAULT_FOLDER / f"{name}.toml").read_text("utf-8")) == []


# file, what stands there, what an admin makes of it
FAULTS = {
    "unknown key of a line": ("lines", 'greeting = "accueil"', 'salut = "accueil"'),
    "unknown kind of a line": ("lines", 'kind = "caisse"', 'kind = "caise"'),
    "hours in words": ("hours", '["9:00-16:30"]', '["le matin"]'),
    "unknown key of a platform": ("platforms", 'hours = "aripa"', 'heures = "aripa"'),
    "announcement of nothing": ("announcements", "#[announcements.greve]", "[announcements.x]"),
    "unknown handler": ("steps", 'handler = "welcome"', 'handler = "welcom"'),
    "missing key of a step": ("steps", 'requested = "oubli-demande"', ""),
    "unknown right": ("menus", 'goto = "last_payment"', 'goto = "last_payment", rights = ["x"]'),
    "menu key 0": ("menus", 'key = "1"', 'key = "0"'),
    "no time to answer": ("dialogue", "first_key = 7.0", "first_key = 0"),
    "département chosen by 0": ("caisses", '1 = "2A"', '0 = "2A"'),
    "a prompt that is no text": ("prompts", '"Bonjour, et bienvenue à la Caf."', "3"),
}


@pytest.mark.parametrize(("name", "old", "new"), FAULTS.values(), ids=FAULTS)
def test_a_fault_is_marked(name: str, old: str, new: str) -> None:
    right = (DEFAULT_FOLDER / f"{name}.toml").read_text("utf-8")
    assert old in right
    assert faults(name, right.replace(old, new, 1)) != []


def _as_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _as_json(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_as_json(one) for one in value]
    return value.isoformat() if isinstance(value, date) else value
