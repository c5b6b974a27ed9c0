"""docs/rules.md names every rule and decision once, and only tests that exist."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TABLE = (ROOT / "docs/rules.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| ([RD]\d\d) \| (.+?) \| (.+?) \|$", TABLE, re.MULTILINE)


def test_every_rule_has_one_row() -> None:
    ids = [row[0] for row in ROWS]
    assert ids == [f"R{n:02}" for n in range(1, 40)] + [f"D{n:02}" for n in range(1, 21)]


def test_every_test_named_exists() -> None:
    for rule, _, shown in ROWS:
        for path in re.findall(r"tests/[\w/]+\.py", shown):
            assert (ROOT / path).is_file(), f"{rule}: {path}"
        for named, path in re.findall(
            r"((?:`test_\w+`(?:, | and )?)+) in (tests/[\w/]+\.py)", shown
        ):
            missing = set(re.findall(r"test_\w+", named)) - _tests_in(ROOT / path)
            assert not missing, f"{rule}: {path}: {missing}"


def _tests_in(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = ast.FunctionDef | ast.AsyncFunctionDef
    return {node.name for node in ast.walk(tree) if isinstance(node, functions)}
