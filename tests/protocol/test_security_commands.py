"""`svi incident`, `audit`, `keys`, `accounts export|erase`, as admins run them."""

import csv
import json
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from shared import rotation
from shared.keyring import KeyRing
from svi.__main__ import cli

CAISSE, NUMBER, PASSWORD, MOBILE = "92", "0000354", "73920461", "+33612345678"
DOSSIER = ["--caisse", CAISSE, "--number", NUMBER]
LONG_AGO, FAR_AWAY = "2021-10-10T21:00", "2199-01-01"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation with one dossier."""
    monkeypatch.setenv("SVI_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SVI_DATABASE_URL", raising=False)
    monkeypatch.setattr(rotation, "GRACE_SECONDS", 0.0)
    _ok("accounts", "add", *DOSSIER, "--mobile", MOBILE, "--password-stdin", stdin=PASSWORD)
    return tmp_path / "home"


def _run(*arguments: str, stdin: str = "") -> Result:
    return CliRunner().invoke(cli, [*arguments], input=stdin)


def _ok(*arguments: str, stdin: str = "") -> list[str]:
    result = _run(*arguments, stdin=stdin)
    assert (result.exit_code, result.exception) == (0, None), result.output
    return result.stdout.splitlines()


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _rows(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file, delimiter=";"))


def test_raise_status_lift(home: Path) -> None:
    assert _ok("incident", "status") == ["rien n'est fermé"]
    assert _ok("incident", "raise") == ["service : fermé"]
    assert _ok("incident", "raise") == ["service : déjà fermé"]
    assert _ok("incident", "raise", "--channel", "voice") == ["channel:voice : fermé"]
    assert _ok("incident", "raise", "--caisse", "2A") == ["caisse:2A : fermé"]
    assert [line.split(" : ")[0] for line in _ok("incident", "status")] == [
        "service",
        "channel:voice",
        "caisse:2A",
    ]
    assert _ok("incident", "lift", "--caisse", "2A") == ["caisse:2A : ouvert"]
    assert _run("incident", "lift", "--caisse", "2A").exit_code == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["raise", "--caisse", "00000"],
        ["raise", "--channel", "fax"],
        ["raise", "--channel", "web", "--caisse", "92"],
        ["void", "yesterday", "2021-10-11"],
        ["void", "2021-10-11", "2021-10-10"],
    ],
)
def test_what_makes_no_sense_is_refused_on_a_line(home: Path, arguments: list[str]) -> None:
    result = _run("incident", *arguments)
    assert result.exit_code != 0
    assert "Traceback" not in result.output
    assert _ok("incident", "status") == ["rien n'est fermé"]


def test_void_writes_what_a_person_needs_and_can_be_run_again(home: Path, tmp_path: Path) -> None:
    people, rest = tmp_path / "people.csv", tmp_path / "rest.csv"
    database = home / "svi.db"
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        (account,) = connection.execute("SELECT id FROM account").fetchone()
        for event in ("read-payments", "something-new"):
            connection.execute(
                "INSERT INTO audit (at, event, channel, account_id) VALUES (?, ?, 'web', ?)",
                ("2021-10-10 19:30:00.000000", event, account),
            )
    void = ["incident", "void", LONG_AGO, "2021-10-11T08:00", "--people", str(people)]
    first = _ok(*void, "--rest", str(rest))
    assert "à examiner par une personne : 1" in first
    assert first[-1] == "personnes concernées : 1"
    assert _rows(people) == [
        ["caisse", "numero", "role", "lu", "change", "premier", "dernier"],
        [CAISSE, NUMBER, "allocataire", "oui", "oui", *["2021-10-10 21:30:00"] * 2],
    ]
    assert _rows(rest)[1:] == [[CAISSE, NUMBER, "something-new", "2021-10-10 21:30:00"]]
    assert (_mode(people), _mode(rest)) == (0o600, 0o600)
    assert _ok(*void, "--rest", str(rest)) == first


def test_audit_head_and_verify(home: Path, tmp_path: Path) -> None:
    _ok("incident", "raise")
    head = tmp_path / "head.json"
    head.write_text(_ok("audit", "head")[0], encoding="utf-8")
    assert json.loads(head.read_text(encoding="utf-8"))["batch"] == 1
    assert _ok("audit", "verify", "--head", str(head)) == [
        "1 lignes vérifiées, 0 pas encore scellées"
    ]
    with closing(sqlite3.connect(home / "svi.db", isolation_level=None)) as connection:
        connection.execute("UPDATE audit SET event = 'login'")
    result = _run("audit", "verify", "--head", str(head))
    assert result.exit_code == 1
    assert "journal altéré : ligne 1 modifiée, lot 1" in result.output


def test_a_head_that_is_not_there_is_named(home: Path, tmp_path: Path) -> None:
    result = _run("audit", "verify", "--head", str(tmp_path / "none"))
    assert result.exit_code == 1
    assert result.output == (
        f"Erreur : {tmp_path / 'none'} : ne peut pas être lu : No such file or directory\n"
    )


def test_a_window_is_over_before_it_is_voided(home: Path) -> None:
    result = _run("incident", "void", LONG_AGO, FAR_AWAY)
    assert result.exit_code == 1
    assert result.output.startswith("Erreur : la fin est à venir")


def test_a_head_that_is_none_is_refused(home: Path, tmp_path: Path) -> None:
    _ok("incident", "raise")
    for text in ("", "[]", "{}", '{"batch": "x", "mac": "", "rows": 1}'):
        (tmp_path / "head.json").write_text(text, encoding="utf-8")
        result = _run("audit", "verify", "--head", str(tmp_path / "head.json"))
        assert (result.exit_code, "Traceback" in result.output) == (1, False)


def test_audit_purge(home: Path) -> None:
    assert _ok("audit", "purge") == ["0 lignes effacées"]


def test_keys(home: Path) -> None:
    before = KeyRing.load(home / "keys.json")
    assert _ok("keys", "add")[0].startswith("clé 2 ajoutée")
    assert _ok("keys", "rotate")[-1] == "3 valeurs sous la clé 2, ancienne clé détruite"
    assert _ok("keys", "status")[0] == "clé de scellement   2"
    _ok("keys", "pseudonyms")
    after = KeyRing.load(home / "keys.json")
    assert (list(after.sealing), after.indexing) == ([2], before.indexing)
    assert after.pseudonyms != before.pseudonyms
    assert _mode(home / "keys.json") == 0o600


def test_a_pseudonym_key_that_is_too_old_is_told(home: Path) -> None:
    """D16: for the supervision, by the exit code."""
    path = home / "keys.json"
    ring = json.loads(path.read_text(encoding="utf-8"))
    for since, shown in (
        ("2021-10-09T22:00:00+00:00", "du 2021-10-10 00:00:00"),
        (None, "d'âge inconnu"),
    ):
        path.write_text(json.dumps(ring | {"pseudonyms_since": since}), encoding="utf-8")
        result = _run("keys", "status")
        assert result.exit_code == 1
        assert f"clé de pseudonymes  {shown}" in result.output
        assert "lancez : svi keys pseudonyms" in result.output
    _ok("keys", "pseudonyms")
    _ok("keys", "status")


def test_export_and_erase(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "dossier.json"
    _ok("accounts", "export", *DOSSIER, "--file", str(file))
    assert _mode(file) == 0o600
    assert json.loads(file.read_text(encoding="utf-8"))["personnes"][0]["mobile"] == MOBILE
    assert _run("accounts", "erase", *DOSSIER, stdin="n\n").exit_code == 1
    assert _ok("accounts", "erase", *DOSSIER, "--yes") == ["dossier effacé"]
    _ok("accounts", "export", *DOSSIER, "--file", str(file))
    assert json.loads(file.read_text(encoding="utf-8"))["personnes"][0]["mobile"] is None


@pytest.mark.parametrize("command", [["export", "--file", "x.json"], ["erase", "--yes"]])
def test_there_is_no_such_dossier(home: Path, command: list[str]) -> None:
    result = _run("accounts", *command, "--caisse", CAISSE, "--number", "7654321")
    assert (result.exit_code, "il n'y a pas de tel dossier" in result.output) == (1, True)
