"""`svi transition show`: the table of D10 as an admin reads it."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from shared.rules import DEFAULT_FILE
from svi.__main__ import cli

HEADER = ["avec", "identifiant", "où", "accès", "depuis", "jusqu'à"]
PHONE = [
    ["mot de passe à 8 chiffres", "numéro d'allocataire", "téléphone", "connexion",
     "toujours", "sans fin"],
    ["code confidentiel à 4 chiffres", "numéro d'allocataire", "téléphone", "connexion",
     "toujours", "sans fin"],
]  # fmt: skip
BEFORE = [
    ["mot de passe à 8 chiffres", "numéro d'allocataire", where, "connexion",
     "toujours", "09/10/2021 00:00"]
    for where in ("caf.fr", "application", "borne")
]  # fmt: skip
SINCE = ["09/10/2021 00:00", "sans fin"]
AFTER = [
    ["mot de passe à 8 chiffres", "NIR", "caf.fr", "première connexion", *SINCE],
    ["mot de passe à 8 chiffres", "NIR", "application", "première connexion", *SINCE],
    ["mot de passe du compte personnel", "NIR", "caf.fr", "connexion", *SINCE],
    ["mot de passe du compte personnel", "NIR", "application", "connexion", *SINCE],
    ["mot de passe du compte personnel", "identifiant provisoire", "caf.fr", "connexion", *SINCE],
    ["mot de passe du compte personnel", "identifiant provisoire", "application", "connexion",
     *SINCE],
]  # fmt: skip


def _show(*arguments: str, rules: Path = DEFAULT_FILE) -> Result:
    runner = CliRunner(env={"SVI_RULES": str(rules)})
    return runner.invoke(cli, ["transition", "show", *arguments])


def _table(result: Result) -> tuple[str, list[list[str]]]:
    assert result.exit_code == 0
    assert result.stderr == ""
    title, *lines = result.stdout.splitlines()
    return title, [[cell.strip() for cell in line.split("  ") if cell] for line in lines]


# fmt: off
INSTANTS = [
    # --on                       first line                             the table
    ("2021-10-08",                "Le 08/10/2021 00:00, heure de Paris :", PHONE + BEFORE),
    ("2021-10-08T23:59:59",       "Le 08/10/2021 23:59, heure de Paris :", PHONE + BEFORE),
    ("2021-10-09",                "Le 09/10/2021 00:00, heure de Paris :", PHONE + AFTER),
    ("2021-10-08T22:00:00+00:00", "Le 09/10/2021 00:00, heure de Paris :", PHONE + AFTER),
    ("2030-01-01T12:00",          "Le 01/01/2030 12:00, heure de Paris :", PHONE + AFTER),
]
# fmt: on


@pytest.mark.parametrize(("text", "title", "rows"), INSTANTS)
def test_who_may_log_in_that_day(text: str, title: str, rows: list[list[str]]) -> None:
    assert _table(_show("--on", text)) == (title, [HEADER, *rows])


def test_without_a_date_it_is_now() -> None:
    _, rows = _table(_show())
    assert rows == [HEADER, *PHONE, *AFTER]


def test_a_table_that_opens_nothing_says_so(tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    text = DEFAULT_FILE.read_text(encoding="utf-8").partition("[[transition]]")[0]
    closed = 'credential="code"\nidentifier="number"\nchannel="voice"\nway="closed"\n'
    rules.write_text(f"{text}[[transition]]\n{closed}", encoding="utf-8")
    _, rows = _table(_show("--on", "2021-10-09", rules=rules))
    assert rows == [["personne ne peut se connecter"]]


@pytest.mark.parametrize(
    "text",
    ["demain", "09/10/2021", "2021-13-01", "2021-02-29", "", "0001-01-01T00:00+14:00"],
)
def test_a_bad_date_is_one_clear_line(text: str) -> None:
    result = _show("--on", text)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr == "Erreur : --on : une date comme 2021-10-10, ou 2021-10-10T21:00\n"
