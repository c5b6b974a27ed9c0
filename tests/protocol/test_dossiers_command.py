"""`svi dossiers`: what an admin, or cron, does with what the information system drops (R38)."""

import json
import os
from datetime import datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from pydantic import TypeAdapter
from sqlalchemy import select

from shared.claimants import import_claimants
from shared.dossier_data import SECTIONS
from shared.models import DossierSection
from svi import demo
from svi.__main__ import cli
from svi.service import open_store, prepare_home
from svi.settings import Settings

GOOD = {"caisse": "92", "number": "0000354", "as_of": "2026-01-01T00:00:00+01:00"}
DEBT = {"code": "rsa", "left": 1}
BAD = {**GOOD, "number": "12"}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with the demonstration's claimants."""
    home = tmp_path / "home"
    settings = Settings(home=home)
    prepare_home(settings)
    with open_store(settings) as store:
        import_claimants(store, demo.CLAIMANTS)
    return home


def run(home: Path, *arguments: object) -> Result:
    words = ["dossiers", *map(str, arguments)]
    return CliRunner(env={"SVI_HOME": str(home)}).invoke(cli, words)


def write(file: Path, *lines: object, age: float = 10) -> Path:
    file.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    at = file.stat().st_mtime - age
    os.utime(file, (at, at))
    return file


def sections(home: Path) -> list[str]:
    with open_store(Settings(home=home)) as store, store.database.read() as transaction:
        return sorted(transaction.scalars(select(DossierSection.section)))


def test_a_file_is_imported_and_stays_where_it_is(home: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "depot.txt", {**GOOD, "debts": [DEBT]})
    result = run(home, "import", file)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"{file} : 1 lignes prises, 0 déjà connues, 0 fausses\n"
    again = run(home, "import", file)
    assert again.stdout == f"{file} : 0 lignes prises, 1 déjà connues, 0 fausses\n"
    assert sections(home) == ["debts"]


def test_bad_lines_are_told_and_the_exit_code_says_so(home: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "depot.jsonl", BAD, {**GOOD, "debts": [DEBT]}, {**GOOD, "x": 1})
    result = run(home, "import", file)
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        f"{file} : ligne 1, champ number : forme inattendue",
        f"{file} : ligne 3 : clé inconnue",
    ]
    assert result.stdout == f"{file} : 1 lignes prises, 0 déjà connues, 2 fausses\n"
    assert sections(home) == ["debts"]


def test_of_very_many_bad_lines_the_number_is_told(home: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "depot.jsonl", *[BAD] * 1003)
    result = run(home, "import", file)
    assert len(result.stderr.splitlines()) == 1001
    assert result.stderr.splitlines()[-1] == f"{file} : et 3 autres lignes fausses"


def test_a_folder_is_emptied_in_order(home: Path, tmp_path: Path) -> None:
    """As cron does it again and again; what is being written waits."""
    folder = tmp_path / "depot"
    folder.mkdir()
    write(folder / "2.jsonl", {**GOOD, "alerts": []}, BAD)
    write(folder / "1.jsonl", {**GOOD, "debts": [DEBT]})
    write(folder / "3.jsonl", {**GOOD, "letters": []}, age=0)
    result = run(home, "import", folder)
    assert result.exit_code == 1
    assert [line.split(" :")[0] for line in result.stdout.splitlines()] == [
        str(folder / "1.jsonl"),
        str(folder / "2.jsonl"),
    ]
    assert sorted(str(file.relative_to(folder)) for file in folder.rglob("*.jsonl")) == [
        "3.jsonl",
        "done/1.jsonl",
        "done/2.jsonl",
    ]
    assert sections(home) == ["alerts", "debts"]


def test_what_is_not_there_is_one_line(home: Path, tmp_path: Path) -> None:
    result = run(home, "import", tmp_path / "absent.jsonl")
    assert result.exit_code == 1
    assert "absent.jsonl: ne peut pas être lu" in str(result.exception)


def test_the_schema_of_a_line_is_shown(home: Path) -> None:
    schema = json.loads(run(home, "describe").stdout)
    names = {name for one in schema["$defs"].values() for name in one["properties"]}
    assert {section.name for section in SECTIONS} | {"delays", "as_of", "withheld"} <= names
    assert all(one["additionalProperties"] is False for one in schema["$defs"].values())
    assert TypeAdapter(dict).validate_python(schema)


def test_the_demonstration_is_told_again_at_each_start(home: Path) -> None:
    """What was told of it does not grow too old while the installation stands."""
    with open_store(Settings(home=home)) as store:
        demo.fill(store)
        first = _as_ofs(home)
        demo.fill(store)
        assert min(_as_ofs(home)) > max(first)


def _as_ofs(home: Path) -> list[datetime]:
    with open_store(Settings(home=home)) as store, store.database.read() as transaction:
        return list(transaction.scalars(select(DossierSection.as_of)))
