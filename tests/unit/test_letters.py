"""Letters: what they say, where they go, and that none is lost, repeated or left in clear (R09)."""

import hashlib
import json
import stat
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import structlog
from sqlalchemy import delete, update

from shared import agent_tasks, outbox
from shared.agent_tasks import Answer, Kind, Task
from shared.errors import SettingsError
from shared.letters import pages, runs, status
from shared.letters.pages import Letter, PageError
from shared.letters.runs import RunError
from shared.letters.spool import Printer, SpoolBusyError
from shared.models import Credential, Message, MessageState, Person
from shared.people import Address, PersonData
from shared.resets import Template
from shared.store import Store
from tests.letters import (
    CLAIRE,
    FORMER_HOME,
    HOME,
    PrintShop,
    add_claimant,
    ask,
    living_at,
    messages,
    print_shop,
)
from tests.store import CAISSE, NUMBER, FakeClock, execute

LATELY = date(2021, 10, 4)  # 29 days before the clock's day
IN_TIME = date(2021, 10, 3)  # 30 days
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def printer(tmp_path_factory: pytest.TempPathFactory) -> PrintShop:
    return print_shop(tmp_path_factory.mktemp("printer"))


@pytest.fixture
def shop(printer: PrintShop, tmp_path: Path) -> PrintShop:
    """The printer, with an empty folder."""
    return PrintShop(tmp_path / "letters", printer.key, printer.certificate)


def run(store: Store, shop: PrintShop) -> list[UUID]:
    return runs.run(store, shop.office(store.clock()))


def states(store: Store) -> list[str]:
    return [message.state for message in messages(store)]


def password_in(store: Store) -> str:
    """Read the password that waits, in groups as it is printed (D14)."""
    [message] = messages(store)
    password: str = json.loads(outbox.opened(store, message, "content"))["password"]
    return f"{password[:4]} {password[4:]}"


def first_letters(store: Store) -> Answer:
    task = Task("nims-1", Kind.FIRST_LETTERS, CAISSE, NUMBER, None)
    return agent_tasks.do(store, task, "test")


def without_password(store: Store, data: PersonData = CLAIRE) -> None:
    add_claimant(store, data=data)
    execute(store, lambda t: t.execute(delete(Credential)))


# What the printer gets


def test_a_printer_opens_and_reads_the_letter(store: Store, shop: PrintShop) -> None:
    """By real tools: openssl and pdftotext. Accents and all."""
    add_claimant(store)
    ask(store)
    password = password_in(store)
    [run_id] = run(store, shop)
    [file] = shop.files()
    text = shop.read(file)
    for line in (
        "Caisse d'allocations familiales",
        "Paris",
        "Zoë Françoise LEFÈVRE-NOËL",
        "3 rue des Œillets",
        "bâtiment B",
        "92000 NANTERRE",
        "Le 02/11/2021",
        "Objet : Votre nouveau mot de passe",
        password,
    ):
        assert line in [each.strip() for each in text.splitlines()]
    assert NUMBER not in text  # D14
    assert shop.spool.path(run_id) == file.parent


def test_the_manifest_says_what_is_there_and_nothing_of_whom(store: Store, shop: PrintShop) -> None:
    add_claimant(store)
    ask(store)
    [run_id] = run(store, shop)
    [file] = shop.files()
    content = file.read_bytes()
    [message] = messages(store)
    assert shop.manifest(run_id) == {
        "run": str(run_id),
        "count": 1,
        "files": [
            {
                "name": f"{message.id}.pdf.p7m",
                "kind": "password",
                "size": len(content),
                "sha256": hashlib.sha256(content).hexdigest(),
            }
        ],
    }


def test_nobody_else_may_look_and_nothing_is_in_clear(store: Store, shop: PrintShop) -> None:
    add_claimant(store)
    ask(store)
    run(store, shop)
    everything = [shop.folder, *shop.folder.rglob("*")]
    assert {stat.S_IMODE(path.lstat().st_mode) & 0o077 for path in everything} == {0}
    for path in everything:
        if path.is_file():
            content = path.read_bytes()
            assert not any(word in content for word in (b"%PDF", b"NANTERRE", b"Zo\xc3\xab"))


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        pytest.param(
            {"until": datetime(2021, 11, 1, tzinfo=UTC)}, "hors de validité", id="expired"
        ),
        pytest.param({"bits": 1024}, "2048 bits", id="weak"),
    ],
)
def test_a_certificate_that_is_of_no_use_is_refused(
    clock: FakeClock, tmp_path: Path, made: dict[str, object], reason: str
) -> None:
    wrong = print_shop(tmp_path, **made)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match=reason):
        Printer.load(wrong.certificate, clock())


def test_a_certificate_that_is_none_is_refused(clock: FakeClock, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="ne peut pas être lu"):
        Printer.load(tmp_path / "none.pem", clock())
    (tmp_path / "wrong.pem").write_text("certificate")
    with pytest.raises(SettingsError, match="n'est pas un certificat X"):
        Printer.load(tmp_path / "wrong.pem", clock())


# Where it goes


@pytest.mark.parametrize(
    ("data", "city"),
    [
        pytest.param(living_at(HOME), "92000 NANTERRE", id="never changed"),
        pytest.param(living_at(HOME, address_since=IN_TIME), "92000 NANTERRE", id="30 days ago"),
        pytest.param(
            living_at(HOME, address_since=LATELY, address_before=FORMER_HOME),
            "29200 BREST",
            id="29 days ago: the one before",
        ),
        pytest.param(
            living_at(None, address_since=LATELY, address_before=FORMER_HOME),
            "29200 BREST",
            id="taken away 29 days ago: the one before",
        ),
    ],
)
def test_the_address_is_one_that_may_be_trusted(
    store: Store, shop: PrintShop, data: PersonData, city: str
) -> None:
    """D04; who gets it at the former address is told why."""
    add_claimant(store, data=data)
    ask(store)
    run(store, shop)
    [file] = shop.files()
    text = shop.read(file)
    assert city in text
    assert ("Votre adresse a été modifiée récemment" in text) == (city == "29200 BREST")


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(living_at(HOME, address_since=LATELY), id="new, none before"),
        pytest.param(living_at(None), id="none"),
    ],
)
def test_without_such_an_address_a_letter_waits_and_expires(
    store: Store, clock: FakeClock, shop: PrintShop, data: PersonData
) -> None:
    add_claimant(store, data=data)
    ask(store)
    execute(store, lambda t: t.execute(update(Message).values(expires_at=clock() + 60 * DAY)))
    assert run(store, shop) == []
    assert status.status(store).without_address == 1
    clock.advance(DAY)
    assert len(run(store, shop)) == (1 if data.address else 0)  # 30 days old by now
    clock.advance(60 * DAY)
    run(store, shop)
    assert states(store) == ["sending" if data.address else "expired"]


def test_a_letter_that_cannot_be_printed_holds_up_no_other(store: Store, shop: PrintShop) -> None:
    add_claimant(store, "0000001", living_at(Address("1 rue 漢字", None, "75001", "Paris")))
    add_claimant(store, "0000002", living_at(Address("mot " * 200, None, "75001", "Paris")))
    damaged = add_claimant(store, "0000003")
    add_claimant(store, "0000004")
    for number in ("0000001", "0000002", "0000003", "0000004"):
        ask(store, number)
    execute(
        store,
        lambda t: t.execute(
            update(Message).where(Message.account_id == damaged).values(content_sealed=b"damaged")
        ),
    )
    with structlog.testing.capture_logs() as lines:
        run(store, shop)
    assert sorted(states(store)) == ["refused", "refused", "refused", "sending"]
    assert len(shop.files()) == 1
    assert [line["event"] for line in lines] == ["letter_refused"] * 3
    assert "漢" not in str(lines)


def test_a_page_that_is_too_long_is_refused(clock: FakeClock) -> None:
    letter = Letter(["Caf"], ["Zoë"], "Le 02/11/2021", "Objet", "mot " * 3000)
    with pytest.raises(PageError, match="text does not fit"):
        pages.render(letter, clock())


def test_without_its_font_nothing_is_begun(
    store: Store, shop: PrintShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_claimant(store)
    ask(store)
    monkeypatch.setattr(pages, "FONT", Path("/none/DejaVuSans.ttf"))
    with pytest.raises(SettingsError, match="fonts-dejavu-core"):
        run(store, shop)
    assert states(store) == ["queued"]


# A run and its end


def test_only_a_confirmed_run_loses_its_texts(store: Store, shop: PrintShop) -> None:
    add_claimant(store)
    ask(store)
    [run_id] = run(store, shop)
    [before] = messages(store)
    assert before.text_sealed is not None
    assert runs.confirm(store, shop.spool, run_id) == 1
    [after] = messages(store)
    assert after.state == MessageState.ACCEPTED
    assert (after.content_sealed, after.text_sealed, after.destination_sealed) == (None,) * 3
    assert shop.files() == []
    with pytest.raises(RunError, match="déjà confirmé"):
        runs.confirm(store, shop.spool, run_id)
    with pytest.raises(RunError, match="déjà confirmé"):
        runs.print_again(store, shop.office(store.clock()), run_id)


def test_a_run_that_nobody_knows_is_not_confirmed(store: Store, shop: PrintShop) -> None:
    with pytest.raises(RunError, match="aucun tirage"):
        runs.confirm(store, shop.spool, uuid4())


def test_letters_leave_once(store: Store, clock: FakeClock, shop: PrintShop) -> None:
    add_claimant(store)
    ask(store)
    run(store, shop)
    written = [path.read_bytes() for path in shop.files()]
    clock.advance(HOUR)
    outbox.recover(store)  # a dispatcher's lease would be over
    assert run(store, shop) == []
    assert [path.read_bytes() for path in shop.files()] == written
    assert states(store) == ["sending"]


def test_a_lost_run_is_printed_again_the_same(
    store: Store, clock: FakeClock, shop: PrintShop
) -> None:
    """Though the person moved meanwhile."""
    add_claimant(store)
    ask(store)
    [run_id] = run(store, shop)
    [file] = shop.files()
    text = shop.read(file)
    file.unlink()
    execute(store, lambda t: t.execute(update(Person).values(address_sealed=None)))
    clock.advance(DAY)
    runs.print_again(store, shop.office(clock()), run_id)
    assert [shop.read(path) for path in shop.files()] == [text]


def test_a_letter_revoked_before_its_run_was_prepared_is_not_printed(
    store: Store, clock: FakeClock, shop: PrintShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_claimant(store)
    ask(store)
    with monkeypatch.context() as patched:
        patched.setattr(runs, "_prepare", lambda *_: None)  # killed just before
        run(store, shop)
    with store.database.write() as transaction:
        revoked = outbox.Replacement(Message.template == Template.PASSWORD)
        revoked.run(transaction.connection(), clock())
    [run_id] = run(store, shop)
    assert shop.manifest(run_id)["count"] == 0
    assert states(store) == ["refused"]


def test_one_run_at_a_time(store: Store, shop: PrintShop) -> None:
    with shop.spool.alone(), pytest.raises(SpoolBusyError):
        run(store, shop)


def test_sms_and_mail_are_not_printed(store: Store, shop: PrintShop) -> None:
    add_claimant(store)
    ask(store)
    execute(store, lambda t: t.execute(update(Message).values(route="sms")))
    assert run(store, shop) == []


def test_a_run_has_an_end(store: Store, shop: PrintShop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others, and those behind a letter without address, go with the next."""
    monkeypatch.setattr(runs, "MOST", 1)
    add_claimant(store, "0000001", living_at(None))
    add_claimant(store, "0000002")
    add_claimant(store, "0000003")
    for number in ("0000001", "0000002", "0000003"):
        ask(store, number)
    assert sorted(len(run(store, shop)) for _ in range(4)) == [0, 0, 1, 1]
    assert len(shop.files()) == 2


# R25


def test_number_and_password_travel_apart(store: Store, clock: FakeClock, shop: PrintShop) -> None:
    without_password(store)
    assert first_letters(store) is Answer.DONE
    [first] = run(store, shop)
    [number_letter] = shop.files()
    assert NUMBER in shop.read(number_letter)
    assert run(store, shop) == []  # the printer still has the number
    assert runs.confirm(store, shop.spool, first) == 1
    [second] = run(store, shop)
    [password_letter] = shop.files()
    text = shop.read(password_letter)
    assert "Votre mot de passe provisoire" in text
    assert NUMBER not in text
    assert [entry["kind"] for entry in shop.manifest(second)["files"]] == ["letter-password"]  # type: ignore[attr-defined]


def test_a_password_does_not_wait_for_another_dossier(store: Store, shop: PrintShop) -> None:
    without_password(store)
    first_letters(store)
    add_claimant(store, "7654321")
    ask(store, "7654321")
    run(store, shop)
    assert len(shop.files()) == 2


@pytest.mark.parametrize(
    ("age", "overdue"), [(timedelta(hours=72) - timedelta(seconds=1), 0), (timedelta(hours=72), 2)]
)
def test_after_72_hours_the_alarm_sounds(
    store: Store, clock: FakeClock, shop: PrintShop, age: timedelta, overdue: int
) -> None:
    without_password(store)
    first_letters(store)
    run(store, shop)
    clock.advance(age)
    with structlog.testing.capture_logs() as lines:
        run(store, shop)
    assert [line["letters"] for line in lines if line["event"] == "letter_overdue"] == (
        [overdue] if overdue else []
    )
    assert status.status(store).overdue == overdue


def test_status_counts_runs_and_what_waits(store: Store, clock: FakeClock, shop: PrintShop) -> None:
    without_password(store)
    first_letters(store)
    [first] = run(store, shop)
    found = status.status(store)
    assert [(view.run_id, view.letters, view.confirmed_at) for view in found.runs] == [
        (first, 1, None)
    ]
    assert (found.queued, found.without_address, found.overdue) == (1, 0, 0)
    runs.confirm(store, shop.spool, first)
    assert [view.confirmed_at for view in status.status(store).runs] == [clock()]
