"""docs/rules.md names every rule and decision once; it and docs/pannes.md only tests that exist."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TABLE = (ROOT / "docs/rules.md").read_text(encoding="utf-8")
OUTAGES = (ROOT / "docs/pannes.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| ([RD]\d\d) \| (.+?) \| (.+?) \|$", TABLE, re.MULTILINE)


def test_every_rule_has_one_row() -> None:
    ids = [row[0] for row in ROWS]
    assert ids == [f"R{n:02}" for n in range(1, 40)] + [f"D{n:02}" for n in range(1, 21)]


def test_every_outage_names_a_test() -> None:
    _, _, *rows = re.findall(r"^\|.+\|$", OUTAGES, re.MULTILINE)
    assert len(rows) > 10
    for row in rows:
        assert len(cells := row.split(" | ")) == 5, row
        assert "tests/" in cells[-1], row


@pytest.mark.parametrize("table", [TABLE, OUTAGES], ids=["rules", "outages"])
def test_every_test_named_exists(table: str) -> None:
    for path in re.findall(r"tests/[\w/]+\.py", table):
        assert (ROOT / path).is_file(), path
    for names, path in re.findall(r"((?:`test_\w+`(?:, )?)+) in (tests/[\w/]+\.py)", table):
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        functions = {
            node.name
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        assert set(re.findall(r"test_\w+", names)) <= functions, path
