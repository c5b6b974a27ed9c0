"""`svi db`, and what the other commands do about a database of another version."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import text

from ivr.script_files import load_script
from shared import schema
from shared.database import Database
from shared.keyring import KeyRing
from svi.__main__ import EXPECTED, cli
from tests.acceptance import tones
from tests.earlier import fill

SVI = Path(sys.executable).with_name("svi")
SECONDS = 60.0  # for a process of its own

EARLIER = "0003"
LATEST = schema.revisions()[-1]
MISSING = [revision for revision in schema.revisions() if revision > EARLIER]
DONE = [*(f"{revision} : prêt" for revision in MISSING), f"la base est au schéma {LATEST}"]

STORED = [
    ["accounts", "show", "--caisse", "92", "--number", "0000354"],
    ["api", "keys", "list"],
    ["call", "--keys", "92"],
    ["calls"],
    ["gateway"],
    ["incident", "status"],
    ["sms", "list"],
]


@pytest.fixture
def database(
    empty_url: str, keys: KeyRing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Database]:
    """An empty database, which the commands use; `keys` is where they look for the key ring."""
    assert keys.path == tmp_path / "keys.json"
    monkeypatch.setenv("SVI_HOME", str(tmp_path))
    monkeypatch.setenv("SVI_DATABASE_URL", empty_url)
    monkeypatch.setenv("SVI_DEMO", "yes")
    monkeypatch.setattr("shared.logs.configure", lambda _: None)  # this process's are pytest's
    with closing(Database(empty_url)) as database:
        yield database


@pytest.fixture
def earlier(database: Database, keys: KeyRing) -> Database:
    """The same, of an earlier version."""
    fill(database, keys, EARLIER)
    return database


@pytest.fixture
def newer(database: Database) -> Database:
    """The same, of a version to come."""
    database.migrate()
    with database.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    return database


def svi(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments)


def process(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command that would take our signals."""
    return subprocess.run(
        [SVI, *arguments], capture_output=True, encoding="utf-8", timeout=SECONDS, check=False
    )


def complaint(result: Result) -> str:
    """Give the one line of a command that fails."""
    assert result.exit_code == 1
    assert isinstance(result.exception, (SystemExit, *EXPECTED))
    (line,) = (result.stderr or f"svi: {result.exception}").splitlines()
    return line


def test_status_of_a_database_up_to_date(database: Database) -> None:
    database.migrate()
    done = svi("db", "status")
    assert done.exit_code == 0
    assert done.output.split() == ["base", LATEST, "programme", LATEST]


@pytest.mark.usefixtures("earlier")
def test_status_says_what_is_missing_and_what_to_do() -> None:
    done = svi("db", "status")
    assert "svi db upgrade" in complaint(done)
    assert [line.split() for line in done.stdout.splitlines()] == [
        ["base", EARLIER],
        ["programme", LATEST],
        ["manque", *MISSING],
    ]


@pytest.mark.usefixtures("database")
def test_status_of_an_empty_database() -> None:
    done = svi("db", "status")
    assert "svi db upgrade" in complaint(done)
    assert done.stdout.split()[:2] == ["base", "vide"]


@pytest.mark.parametrize("command", ["status", "upgrade"])
def test_a_newer_database_is_left_alone(newer: Database, command: str) -> None:
    assert "plus récent que ce programme" in complaint(svi("db", command))
    assert newer.schema().revision == "9999"


def test_an_upgrade_says_each_step_and_can_be_repeated(earlier: Database) -> None:
    assert svi("db", "upgrade").output.splitlines() == DONE
    assert earlier.schema().revision == LATEST
    assert svi("db", "upgrade").output.splitlines() == DONE[-1:]


def test_two_upgrades_at_once_both_succeed(earlier: Database) -> None:
    upgrading = [
        subprocess.Popen([SVI, "db", "upgrade"], stdout=subprocess.PIPE, encoding="utf-8")
        for _ in range(2)
    ]
    said = [process.communicate(timeout=SECONDS)[0].splitlines() for process in upgrading]
    assert [process.returncode for process in upgrading] == [0, 0]
    assert sorted(said, key=len) == [DONE[-1:], DONE]
    assert earlier.schema().revision == LATEST


def test_an_upgrade_makes_the_schema_of_an_empty_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SVI_HOME", str(tmp_path / "new"))
    assert svi("db", "upgrade").exit_code == 0
    assert svi("db", "status").exit_code == 0


@pytest.mark.parametrize("command", ["status", "upgrade"])
def test_a_database_that_is_away_is_one_line_without_its_password(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: str
) -> None:
    url = "postgresql+psycopg://svi:sesame@127.0.0.1:1/base"
    monkeypatch.setenv("SVI_HOME", str(tmp_path))
    monkeypatch.setenv("SVI_DATABASE_URL", url)
    line = complaint(svi("db", command))
    assert line == (
        "svi: postgresql+psycopg://svi:***@127.0.0.1:1/base: base de données injoignable ou"
        " illisible (OperationalError) : vérifiez SVI_DATABASE_URL ou SVI_HOME"
    )


@pytest.mark.parametrize("command", STORED, ids=" ".join)
def test_nothing_starts_on_an_earlier_schema_nor_upgrades_it(
    earlier: Database, command: list[str]
) -> None:
    assert "svi db upgrade" in complaint(svi(*command))
    assert earlier.schema().revision == EARLIER


@pytest.mark.parametrize("command", STORED, ids=" ".join)
def test_nothing_starts_on_a_newer_schema(newer: Database, command: list[str]) -> None:
    assert "plus récent que ce programme" in complaint(svi(*command))
    assert newer.schema().revision == "9999"


def test_a_service_makes_the_schema_of_an_empty_database(database: Database) -> None:
    done = svi("api", "keys", "add", "--client", "site-web", "--scope", "logins")
    assert done.exit_code == 0
    assert database.schema().revision == LATEST


def test_no_voice_server_starts_on_an_earlier_schema(earlier: Database, tmp_path: Path) -> None:
    script = load_script()
    (tmp_path / "prompts").mkdir()
    silences = [f"silence-{ms}" for ms in script.silences_ms()]
    tones.write_voice(tmp_path / "prompts", [*sorted(script.catalogue.ids), *silences])
    done = process("voice")
    assert done.returncode == 1
    assert "svi db upgrade" in done.stderr
    assert done.stdout == ""
    assert earlier.schema().revision == EARLIER


def test_the_embedded_service_upgrades_its_own_database_and_no_other(
    earlier: Database, tmp_path: Path, keys: KeyRing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SVI_DIALPLANS", str(tmp_path / "none"))  # it stops after that
    assert process("up").returncode == 1
    assert earlier.schema().revision == EARLIER
    monkeypatch.delenv("SVI_DATABASE_URL")
    with closing(Database(f"sqlite:///{tmp_path / 'svi.db'}")) as own:
        fill(own, keys, EARLIER)
        assert process("up").returncode == 1
        assert own.schema().revision == LATEST
