"""`svi letters` and runs that are killed: no letter lost, none printed twice (R09, R25)."""

import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from multiprocessing import get_context
from pathlib import Path
from unittest.mock import patch
from uuid import UUID

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import update

from shared.clock import DAY
from shared.keyring import KeyRing
from shared.letters import runs
from shared.letters.spool import Spool
from shared.letters.texts import DEFAULT_FILE
from shared.models import Message, MessageState
from shared.store import Store
from svi.__main__ import cli
from svi.service import open_store, prepare_home
from svi.settings import Settings
from tests.letters import PrintShop, add_claimant, ask, messages, print_shop
from tests.processes import Place
from tests.store import NUMBER

LETTERS = [f"000000{place}" for place in range(4)]
RUN = re.compile(r"[0-9a-f-]{36}")


@pytest.fixture(scope="module")
def printer(tmp_path_factory: pytest.TempPathFactory) -> PrintShop:
    return print_shop(tmp_path_factory.mktemp("printer"))


@pytest.fixture
def shop(printer: PrintShop, tmp_path: Path) -> PrintShop:
    return PrintShop(tmp_path / "letters", printer.key, printer.certificate)


@pytest.fixture
def place(url: str, tmp_path: Path) -> Place:
    KeyRing.create(tmp_path / "keys.json")
    return Place(url, tmp_path / "keys.json")


@pytest.fixture
def shared_store(place: Place) -> Iterator[Store]:
    with closing(place.open()) as store:
        for number in LETTERS:
            add_claimant(store, number)
            ask(store, number)
        yield store


def _die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class _DieAtTheSecond:
    """Encrypts one letter."""

    def __init__(self) -> None:
        self._calls = 0

    def __call__(self, content: bytes) -> bytes:
        self._calls += 1
        if self._calls == 2:
            _die()
        return content


def _run_and_die(place: Place, shop: PrintShop, where: str, how: Callable[..., object]) -> None:
    with closing(place.open()) as store, patch(where, how):
        runs.run(store, shop.office(store.clock()))


@pytest.mark.parametrize(
    ("where", "how"),
    [
        pytest.param("shared.letters.runs._claim", _die, id="before it began"),
        pytest.param("shared.letters.runs._prepare", _die, id="claimed"),
        pytest.param("shared.letters.spool.Printer.encrypt", _DieAtTheSecond(), id="half written"),
        pytest.param("shared.letters.spool.Path.rename", _die, id="written, not in its place"),
        pytest.param("shared.letters.runs._unconfirmed", _die, id="in its place, not noted"),
    ],
)
def test_a_killed_run_loses_and_repeats_nothing(
    place: Place, shared_store: Store, shop: PrintShop, where: str, how: Callable[..., object]
) -> None:
    process = get_context("fork").Process(target=_run_and_die, args=(place, shop, where, how))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    before = {path: path.read_bytes() for path in shop.files()}

    runs.run(shared_store, shop.office(shared_store.clock()))

    files = shop.files()
    assert sorted(path.name.split(".")[0] for path in files) == sorted(
        str(message.id) for message in messages(shared_store)
    )
    assert all(path.read_bytes() == content for path, content in before.items())
    assert all("Votre nouveau mot de passe" in shop.read(path) for path in files)
    assert {message.state for message in messages(shared_store)} == {MessageState.SENDING}
    assert not [path for path in shop.folder.iterdir() if path.name.startswith(".")]


def test_a_killed_confirmation_is_done_again(
    place: Place, shared_store: Store, shop: PrintShop
) -> None:
    [run_id] = runs.run(shared_store, shop.office(shared_store.clock()))
    with patch.object(Spool, "remove", side_effect=KeyboardInterrupt), suppress(KeyboardInterrupt):
        runs.confirm(shared_store, shop.spool, run_id)
    assert None not in {message.text_sealed for message in messages(shared_store)}
    assert runs.confirm(shared_store, shop.spool, run_id) == len(LETTERS)
    assert {message.text_sealed for message in messages(shared_store)} == {None}
    assert shop.files() == []


# The command


@pytest.fixture
def settings(tmp_path: Path, printer: PrintShop, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("SVI_HOME", str(tmp_path))
    monkeypatch.setenv("SVI_PRINTER", str(printer.certificate))
    return Settings()


@pytest.fixture
def home_store(settings: Settings) -> Iterator[Store]:
    prepare_home(settings)
    with open_store(settings) as store:
        yield store


def svi(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["letters", *arguments])


def test_a_day_at_the_post_office(
    home_store: Store, settings: Settings, printer: PrintShop
) -> None:
    add_claimant(home_store)
    ask(home_store)
    assert svi("status").output == "1 en attente, dont 0 sans adresse utilisable\n"
    made = svi("run")
    assert made.exit_code == 0, made.output
    folder = Path(made.output.strip())
    assert folder.parent == settings.letters_folder
    [file] = folder.glob("*.p7m")
    assert "Caisse d'allocations familiales" in printer.read(file)
    assert "1 lettre(s)  prêt, à confirmer" in svi("status").output
    assert svi("run").output == ""
    assert svi("run", "--again", folder.name).output == made.output
    assert svi("confirm", folder.name).output == "1 lettre(s) confirmée(s)\n"
    assert "1 lettre(s)  confirmé le" in svi("status").output
    assert NUMBER not in (settings.logs / "letters.log").read_text()


def test_a_run_without_certificate_is_refused(
    home_store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SVI_PRINTER", str(tmp_path / "none.pem"))
    refused = svi("run")
    assert refused.exit_code == 1
    assert str(refused.exception).startswith(f"{tmp_path}/none.pem: ne peut pas être lu")


def test_an_unknown_run_is_not_confirmed(home_store: Store) -> None:
    refused = svi("confirm", str(UUID(int=1)))
    assert refused.exit_code == 1
    assert str(refused.exception) == "aucun tirage n'a cet identifiant"


def test_check_reads_the_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = tmp_path / "letters.toml"
    wrong.write_text(DEFAULT_FILE.read_text("utf-8").replace("{number}", "{password}"), "utf-8")
    monkeypatch.setenv("SVI_LETTER_TEXTS", str(wrong))
    checked = CliRunner().invoke(cli, ["check"])
    assert checked.exit_code == 1
    assert f"{wrong}: letters.letter-identifier.text: il faut la variable {{number}}" in (
        checked.output
    )


def test_status_fails_when_a_letter_is_late(home_store: Store) -> None:
    add_claimant(home_store)
    ask(home_store)
    with home_store.database.write() as transaction:
        transaction.execute(update(Message).values(created_at=home_store.clock() - 4 * DAY))
    late = svi("status")
    assert late.exit_code == 1
    assert "1 en retard : demandées depuis plus de 72 h" in late.output
