"""`svi accounts import-passwords`, `separate`, `move`, `revoke`, as admins run them."""

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from shared import claimants
from shared.password_import import COLUMNS
from svi.__main__ import cli

CAISSE, NUMBER, PASSWORD = "92", "0000354", "73920461"
OLD = "50718264"
HOME = ["--caisse", CAISSE, "--number", NUMBER]
ADD = ["accounts", "add", *HOME, "--mobile", "+33612345678", "--password-stdin"]

Svi = Callable[..., Result]


@pytest.fixture
def svi(tmp_path: Path) -> Svi:
    """Run a command on a store with one dossier."""
    runner = CliRunner(env={"SVI_HOME": str(tmp_path / "home")})

    def run(*arguments: str, stdin: str | None = None) -> Result:
        return runner.invoke(cli, arguments, input=stdin, catch_exceptions=True)

    assert run(*ADD, stdin=PASSWORD).exit_code == 0
    return run


def shown(svi: Svi) -> list[str]:
    """Give the state of each credential of the dossier."""
    text = svi("accounts", "show", *HOME).output
    return [found[1] for found in re.finditer(r"^  mot de passe ([^,]+), du ", text, re.MULTILINE)]


@pytest.mark.parametrize(
    ("arguments", "said", "states"),
    [
        (["separate"], "mot de passe remplacé", ["terminé", "en attente"]),
        (["revoke"], "mot de passe révoqué", ["terminé"]),
        (["revoke", "--reissue"], "mot de passe révoqué", ["terminé", "en attente"]),
        (["move", "--to-caisse", "75", "--to-number", "0004711"], "dossier muté", ["terminé"]),
    ],
    ids=["separate", "revoke", "revoke and reissue", "move"],
)
def test_an_admin_ends_a_password(
    svi: Svi, arguments: list[str], said: str, states: list[str]
) -> None:
    done = svi("accounts", arguments[0], *HOME, *arguments[1:])
    assert (done.exit_code, done.output) == (0, f"{said}\n")
    assert shown(svi) == states


def test_a_closed_dossier_is_shown_as_one_and_not_filled_again(svi: Svi, tmp_path: Path) -> None:
    shown_before = svi("accounts", "show", *HOME).output.splitlines()[0]
    svi("accounts", "move", *HOME, "--to-caisse", "75", "--to-number", "0004711")
    assert svi("accounts", "show", *HOME).output.splitlines()[0] == shown_before.replace(
        "affilie,", "affilie, fermé,"
    )
    row = {"caisse": CAISSE, "numero": NUMBER, "role": "conjoint", "situation": "affilie"}
    row |= {"nom": "Petit", "naissance": "1990-04-05"}
    file = tmp_path / "claimants.csv"
    lines = [claimants.COLUMNS, [row.get(column, "") for column in claimants.COLUMNS]]
    file.write_text("\n".join(";".join(cells) for cells in lines), encoding="utf-8")
    done = svi("accounts", "import", str(file))
    assert (done.exit_code, done.output.splitlines()[-2:]) == (
        0,
        [
            "0 personnes ajoutées, 0 mises à jour, 0 inchangées",
            "1 laissées de côté : leur dossier est fermé",
        ],
    )


@pytest.mark.parametrize("command", ["separate", "revoke"])
def test_an_unknown_dossier_is_told_without_its_number(svi: Svi, command: str) -> None:
    done = svi("accounts", command, "--caisse", CAISSE, "--number", "9999999")
    assert done.exit_code != 0
    assert "9999999" not in str(done.exception)


def test_what_became_of_a_file_is_told(svi: Svi, tmp_path: Path) -> None:
    svi("accounts", "revoke", *HOME)
    digest = hashlib.sha256(OLD.encode()).hexdigest()
    file = tmp_path / "passwords.csv"
    other = f"{CAISSE};0004711;mot-de-passe;sha256;{digest};2021-06-01;"
    file.write_text("\n".join([";".join(COLUMNS), other]), encoding="utf-8")
    refused = svi("accounts", "import-passwords", str(file))
    assert refused.exit_code == 1
    assert "ligne 2, colonne numero : il n'y a pas de tel dossier ouvert" in refused.output
    assert "refusé, rien n'a été repris" in refused.output
    svi("accounts", "move", *HOME, "--to-caisse", CAISSE, "--to-number", "0004711")
    kept = svi("accounts", "import-passwords", str(file))
    assert "0 repris, 0 repris auparavant, 1 laissés" in kept.output
    assert digest not in refused.output + kept.output
