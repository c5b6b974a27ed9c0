"""Taking back what was done in a window (D15, R39)."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast, get_args
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Table, func, insert, select, text, update

from shared import (
    apikeys,
    audit,
    before,
    claimants,
    credentials,
    disclosure,
    dossier,
    life_cycle,
    outbox,
    password_import,
    provisional,
    resets,
    rotation,
    voiding,
    web_accounts,
    web_changes,
)
from shared.apikeys import Scope
from shared.audit import Event
from shared.before import Change
from shared.credentials import Refusal
from shared.errors import NotAllowedError
from shared.hashing import read_foreign
from shared.life_cycle import Key
from shared.models import (
    Account,
    AuditEntry,
    Credential,
    CredentialOrigin,
    CredentialState,
    EndedBy,
    Message,
    Person,
    Role,
    Situation,
    VoidedEntry,
    WebAccount,
)
from shared.origin import Origin
from shared.people import PersonData, open_person, seal_person
from shared.rules import Channel
from shared.secret import Secret
from shared.sessions import Session
from shared.store import Store
from shared.voiding import HARMLESS, READ, UNDO, VoidResult, Window
from shared.web_changes import WebChange
from tests.processes import Place, run_together
from tests.store import (
    CAISSE,
    NUMBER,
    OWNER,
    PASSWORD,
    FakeClock,
    add_account,
    execute,
    log_in,
    open_session,
    pay,
)
from tests.web import (
    CLAIRE,
    HUGO,
    WEB_PASSWORD,
    add_dossier,
    add_person,
    make_web_account,
)

T1 = datetime(2021, 10, 10, 19, 0, tzinfo=UTC)  # 21:00 in Paris (R39)
T2 = datetime(2021, 10, 11, 6, 0, tzinfo=UTC)
WINDOW = Window(T1, T2)
INSIDE = T1 + timedelta(hours=1)
AFTER = T2 + timedelta(hours=6)
WEB = Origin(Channel.WEB)
THIEF = "+33612000009"
MOMENT = timedelta(microseconds=1)


@pytest.fixture
def clock() -> FakeClock:
    """A clock that stands before the window."""
    clock = FakeClock()
    clock.now = T1 - timedelta(days=40)
    return clock


@contextmanager
def _at(store: Store, instant: datetime) -> Iterator[None]:
    """Do something at an instant, and go on after the window."""
    assert isinstance(store.clock, FakeClock)
    store.clock.now = instant
    yield
    store.clock.now = max(instant, AFTER)


def _allocataire(store: Store, number: str = NUMBER) -> PersonData:
    return open_person(store.keys, _row(store, number))


def _row(store: Store, number: str = NUMBER) -> Person:
    with store.database.read() as transaction:
        return transaction.scalars(
            select(Person)
            .join(Account, Account.id == Person.account_id)
            .where(Account.number == number, Person.role == Role.ALLOCATAIRE)
        ).one()


def _change_mobile(
    store: Store, mobile: str, instant: datetime, origin: Origin = WEB, number: str = NUMBER
) -> None:
    """Change a contact as every function that changes one does."""
    person_id = _row(store, number).id
    with store.database.write() as transaction:
        person = transaction.get_one(Person, person_id)
        data = open_person(store.keys, person)
        before.note(store, transaction, Change("contacts-changed", instant, origin, person))
        changed = replace(data, mobile=mobile, mobile_since=instant.date(), mobile_before=None)
        for column, value in seal_person(store.keys, person_id, changed).items():
            setattr(person, column, value)


def _last_password(store: Store) -> str:
    """Give the password of the one message that is on its way."""
    with store.database.read() as transaction:
        message = transaction.scalars(select(Message).where(Message.state == "queued")).one()
    return str(json.loads(outbox.opened(store, message, "content"))["password"])


def _destinations(store: Store) -> list[str]:
    """Give the telephones that messages on their way go to."""
    with store.database.read() as transaction:
        messages = transaction.scalars(select(Message).where(Message.state == "queued")).all()
    return [outbox.opened(store, one, "destination") for one in messages]


# Whether a change at that instant is taken back: the window is half open.
EDGES = [
    # instant       in the window
    (T1 - MOMENT, False),
    (T1, True),
    (INSIDE, True),
    (T2 - MOMENT, True),
    (T2, False),
]


@pytest.mark.parametrize(("instant", "within"), EDGES)
def test_a_contact_changed_in_the_window_is_put_back(
    store: Store, instant: datetime, *, within: bool
) -> None:
    add_account(store)
    known = _allocataire(store)
    _change_mobile(store, THIEF, instant)
    assert voiding.void(store, WINDOW) == ({VoidResult.UNDONE: 1} if within else {})
    assert _allocataire(store).mobile == (OWNER if within else THIEF)
    assert not within or _allocataire(store) == known
    assert _row(store).mobile_index == store.keys.index("phone", OWNER if within else THIEF)


def test_of_several_changes_the_newest_is_undone_first(store: Store) -> None:
    add_account(store)
    for step, mobile in enumerate(("+33611111111", "+33622222222", THIEF)):
        _change_mobile(store, mobile, INSIDE + step * MOMENT)
    assert voiding.void(store, WINDOW) == {VoidResult.UNDONE: 3}
    assert _allocataire(store).mobile == OWNER


def test_a_contact_changed_again_since_is_left_to_a_person(store: Store) -> None:
    add_account(store)
    _change_mobile(store, THIEF, INSIDE)
    _change_mobile(store, "+33633333333", T2)
    assert voiding.void(store, WINDOW) == {VoidResult.BY_HAND: 1}
    assert _allocataire(store).mobile == "+33633333333"
    (left,) = voiding.by_hand(store, WINDOW)
    assert (left.caisse, left.number, left.event) == (CAISSE, NUMBER, "contacts-changed")
    assert NUMBER not in repr(left)


@pytest.mark.parametrize("close", ["erase", "move"])
def test_in_a_closed_dossier_nothing_is_put_back(store: Store, close: str) -> None:
    """D16: what was erased stays so. R08: a dossier that moved took the contact with it."""
    add_account(store)
    _change_mobile(store, THIEF, INSIDE)
    assert isinstance(store.clock, FakeClock)
    store.clock.now = AFTER
    if close == "erase":
        disclosure.erase(store, CAISSE, NUMBER)
    else:
        life_cycle.move(store, HOME, ABROAD, ADMIN)
    assert voiding.void(store, WINDOW) == {VoidResult.BY_HAND: 1}
    assert _allocataire(store).mobile == (None if close == "erase" else THIEF)


def test_a_damaged_image_is_left_to_a_person(store: Store) -> None:
    add_account(store)
    _change_mobile(store, THIEF, INSIDE)
    execute(store, lambda t: t.execute(update(AuditEntry).values(before_sealed=bytes(40))))
    assert voiding.void(store, WINDOW) == {VoidResult.BY_HAND: 1}
    assert _allocataire(store).mobile == THIEF


def test_an_event_of_a_newer_version_is_left_to_a_person(store: Store) -> None:
    account_id = add_account(store)
    with store.database.write() as transaction:
        audit.note(transaction, cast(Event, "something-new"), INSIDE, WEB, account_id)
    assert voiding.void(store, WINDOW) == {VoidResult.BY_HAND: 1}


def test_every_event_is_placed_once() -> None:
    """What audit.py can note is a read, harmless, or has something that is done about it."""
    reads = [event for event in get_args(Event) if event.startswith(READ)]
    assert Counter([*reads, *HARMLESS, *UNDO]) == Counter(get_args(Event))


AT_ONCE = 20


def _void_beside_others(store: Store, _rank: int) -> object:
    return voiding.void(store, WINDOW)


def test_of_several_voids_at_once_each_dossier_gets_one_password(place: Place) -> None:
    with closing(place.open()) as store:
        assert isinstance(store.clock, FakeClock)
        for number in range(AT_ONCE):
            store.clock.now = T1 - timedelta(days=40)
            add_account(store, f"{number:07}", mobile=f"+336120001{number:02}")
            store.clock.now = INSIDE
            resets.request_password(store, CAISSE, f"{number:07}", WEB)
    assert run_together(place, 3, _void_beside_others) == [{VoidResult.REPLACED: AT_ONCE}] * 3
    with closing(place.open()) as store, store.database.read() as transaction:
        issued = transaction.scalars(
            select(Credential.account_id).where(Credential.origin == CredentialOrigin.INCIDENT)
        ).all()
    assert (len(issued), len(set(issued))) == (AT_ONCE, AT_ONCE)


def test_a_new_password_that_is_voided_too_is_replaced(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A window that is not over yet takes in what a killed run issued."""
    add_account(store)
    with _at(store, INSIDE):
        resets.request_password(store, CAISSE, NUMBER, WEB)
    until_now = replace(WINDOW, end=AFTER + timedelta(days=1))
    issue = resets.replace_after_incident

    def killed(*given: Any) -> None:
        issue(*given)
        raise KeyboardInterrupt

    monkeypatch.setattr(resets, "replace_after_incident", killed)
    with pytest.raises(KeyboardInterrupt):
        voiding.void(store, until_now)
    monkeypatch.setattr(resets, "replace_after_incident", issue)
    assert isinstance(store.clock, FakeClock)
    store.clock.advance(MOMENT)
    voiding.void(store, until_now)
    assert isinstance(log_in(store, _last_password(store)), Session)


HOME, ABROAD = Key(CAISSE, NUMBER), Key("92", "7654321")
ADMIN = Origin(Channel.ADMIN)
CHOSEN = "50718264"  # on the web, or in an earlier system
WITHOUT_NIR = replace(CLAIRE, nir=None, email=None)


def _separate(store: Store, _: Path) -> None:
    life_cycle.separate(store, HOME, ADMIN)


def _move(store: Store, _: Path) -> None:
    life_cycle.move(store, HOME, ABROAD, ADMIN)


def _revoke(store: Store, _: Path) -> None:
    life_cycle.revoke(store, HOME, ADMIN, reissue=False)


def _revoke_and_reissue(store: Store, _: Path) -> None:
    life_cycle.revoke(store, HOME, ADMIN, reissue=True)


def _end_on_web(store: Store, _: Path) -> None:
    change = WebChange(uuid4(), HOME, store.clock(), None)
    assert web_changes.apply(store, change, "caf.fr") is web_changes.ChangeResult.DONE


def _create_on_web(store: Store, _: Path) -> None:
    digest = hashlib.sha256(CHOSEN.encode()).hexdigest()
    change = WebChange(uuid4(), HOME, store.clock(), read_foreign("sha256", digest))
    assert web_changes.apply(store, change, "caf.fr") is web_changes.ChangeResult.DONE


def _import_password(store: Store, folder: Path) -> None:
    digest = hashlib.sha256(CHOSEN.encode()).hexdigest()
    cells = {"type": "mot-de-passe", "procede": "sha256", "empreinte": digest}
    _import(store, folder, cells | {"cree_le": "2021-10-10"})


def _import_code(store: Store, folder: Path) -> None:
    digest = hashlib.sha256(b"4826").hexdigest()
    _import(store, folder, {"type": "code", "procede": "sha256", "empreinte": digest})


def _import(store: Store, folder: Path, cells: dict[str, str]) -> None:
    right = {"caisse": CAISSE, "numero": NUMBER} | cells
    columns = password_import.COLUMNS
    lines = [";".join(columns), ";".join(right.get(column, "") for column in columns)]
    file = folder / "passwords.csv"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert password_import.import_passwords(store, file).taken == 1


def _erase(store: Store, _: Path) -> None:
    assert disclosure.erase(store, CAISSE, NUMBER)


def _add_api_key(store: Store, _: Path) -> None:
    apikeys.add(store, "caf-fr", [Scope.LOGINS], timedelta(days=1))


def _revoke_api_key(store: Store, _: Path) -> None:
    _add_api_key(store, _)
    assert apikeys.revoke(store, apikeys.every(store)[0].id)


def _import_person(store: Store, folder: Path) -> None:
    cells = {"caisse": "92", "numero": "7654321", "role": "allocataire", "situation": "affilie"}
    cells |= {"nom": "Petit", "naissance": "1990-04-05"}
    columns = claimants.COLUMNS
    lines = [";".join(columns), ";".join(cells.get(column, "") for column in columns)]
    file = folder / "claimants.csv"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert claimants.import_claimants(store, file).created == 1


def _change_keys(store: Store, folder: Path) -> None:
    rotation.rotate(store, folder / "keys.json", wait=lambda _: None)
    rotation.renew_pseudonyms(store.keys, folder / "keys.json", store.clock())
    rotation.note_pseudonyms(store)


# What becomes of an act of the window, and the changes that are a person's to look at.
Act = Callable[[Store, Path], None]
REPLACED_ONE = {VoidResult.REPLACED: 1}
ACTS: list[tuple[Act, dict[VoidResult, int], list[str]]] = [
    # act              what came of it    left to a person
    (_separate, REPLACED_ONE, ["separation"]),
    (_move, REPLACED_ONE, ["account-moved", "account-opened-by-move"]),
    (_revoke, {}, ["password-revoked"]),
    (_revoke_and_reissue, REPLACED_ONE, ["password-revoked"]),
    (_end_on_web, {}, ["password-ended-on-web"]),
    (_create_on_web, REPLACED_ONE, []),
    (_import_password, REPLACED_ONE, []),
    (_import_code, REPLACED_ONE, []),
    (_erase, {}, ["dossier-erased"]),
    (_add_api_key, {}, ["api-key-added"]),
    (_revoke_api_key, {}, ["api-key-added", "api-key-revoked"]),
    (_import_person, {}, ["claimants-imported"]),
    (_change_keys, {}, []),
]


@pytest.mark.parametrize(
    ("act", "counts", "rest"), ACTS, ids=[case[0].__name__.strip("_") for case in ACTS]
)
def test_what_is_taken_back_and_what_a_person_looks_at(
    store: Store, tmp_path: Path, act: Act, counts: dict[VoidResult, int], rest: list[str]
) -> None:
    password = None if act is _import_code else PASSWORD
    add_account(store, password=password)
    with _at(store, INSIDE):
        act(store, tmp_path)
    assert voiding.void(store, WINDOW) == counts | ({VoidResult.BY_HAND: len(rest)} if rest else {})
    assert [one.event for one in voiding.by_hand(store, WINDOW)] == rest
    with store.database.read() as transaction:
        usable = transaction.scalars(
            select(Credential.origin).where(Credential.state != CredentialState.ENDED)
        ).all()
        on_its_way = transaction.scalars(
            select(Message.template).where(
                Message.state == "queued", Message.template.in_([*resets.Template])
            )
        ).all()
    untouched = act in {_add_api_key, _revoke_api_key, _import_person, _change_keys}
    assert usable == [*["given"] * untouched, *["incident"] * len(counts)]
    assert on_its_way == ["password"] * len(counts)


@pytest.mark.parametrize("act", [_create_on_web, _import_password])
def test_a_password_of_another_system_is_revoked_and_replaced(
    store: Store, tmp_path: Path, act: Act
) -> None:
    """Neither it nor the one that it ended opens the dossier: the one in the SMS does."""
    add_account(store)
    with _at(store, INSIDE):
        act(store, tmp_path)
        assert isinstance(log_in(store, CHOSEN), Session)
    voiding.void(store, WINDOW)
    for secret in (CHOSEN, PASSWORD):
        assert log_in(store, secret) is Refusal.REFUSED
    assert isinstance(log_in(store, _last_password(store)), Session)


def _ask_for_an_identifier(store: Store) -> None:
    provisional.request(store, HOME, WITHOUT_NIR, WEB)


def _identifiers(store: Store) -> list[str]:
    """Give the provisional identifiers that log in."""
    with store.database.read() as transaction:
        rows = transaction.scalars(select(WebAccount).where(WebAccount.ended_at.is_(None))).all()
    return [
        store.keys.open(
            row.provisional_sealed or b"", "web-account", str(row.id), "provisional"
        ).decode()
        for row in rows
    ]


def test_an_identifier_given_in_the_window_is_withdrawn(store: Store) -> None:
    """R20: with its message; its owner asks for another, and gets one that is new."""
    add_dossier(store, owner=WITHOUT_NIR)
    with _at(store, INSIDE):
        _ask_for_an_identifier(store)
        [withdrawn] = _identifiers(store)
    assert voiding.void(store, WINDOW) == {VoidResult.UNDONE: 1}
    assert (_identifiers(store), _destinations(store)) == ([], [])
    assert isinstance(store.clock, FakeClock)
    store.clock.advance(timedelta(days=1))
    _ask_for_an_identifier(store)
    [given] = _identifiers(store)
    assert given != withdrawn


def test_an_identifier_in_use_is_left_to_a_person(store: Store) -> None:
    """One that was chosen a password for since: the void takes back the window's alone."""
    add_dossier(store, owner=WITHOUT_NIR)
    with _at(store, INSIDE):
        _ask_for_an_identifier(store)
    with store.database.write() as transaction:
        person = transaction.scalars(select(Person)).one()
        hashed = store.hasher.hash(Secret(WEB_PASSWORD))
        web_accounts.set_password(store, transaction, person, hashed, WEB)
    assert voiding.void(store, WINDOW) == {VoidResult.BY_HAND: 1}
    assert len(_identifiers(store)) == 1


def test_an_identifier_and_its_password_of_the_window_are_both_taken_back(store: Store) -> None:
    add_dossier(store, owner=WITHOUT_NIR)
    with _at(store, INSIDE):
        _ask_for_an_identifier(store)
        assert isinstance(store.clock, FakeClock)
        store.clock.advance(timedelta(minutes=1))
        with store.database.write() as transaction:
            person = transaction.scalars(select(Person)).one()
            hashed = store.hasher.hash(Secret(WEB_PASSWORD))
            web_accounts.set_password(store, transaction, person, hashed, WEB)
    assert voiding.void(store, WINDOW) == {VoidResult.UNDONE: 1, VoidResult.REVOKED: 1}
    assert _identifiers(store) == []


def test_a_web_change_told_before_its_password_was_named_is_left_to_a_person(store: Store) -> None:
    """Rows of an earlier version have no subject."""
    account_id = add_account(store)
    with store.database.write() as transaction:
        audit.note(transaction, "password-created-on-web", INSIDE, WEB, account_id)
    assert voiding.void(store, WINDOW) == {VoidResult.BY_HAND: 1}


def test_who_was_refused_has_read_nothing(store: Store) -> None:
    """R39: a refused access is audited, and concerns nobody."""
    account_id = add_dossier(store)
    with _at(store, INSIDE):
        session = open_session(store)
        execute(store, lambda t: t.execute(update(Account).values(situation="primo-demandeur")))
        with pytest.raises(NotAllowedError):  # R32
            dossier.give_delegation(store, session)
    with store.database.read() as transaction:
        refused = select(AuditEntry).where(AuditEntry.event == "access-refused")
        assert transaction.scalars(refused).one().account_id == account_id
    assert voiding.void(store, WINDOW) == {}
    assert list(voiding.concerned(store, WINDOW)) == []


@pytest.mark.parametrize("given", [True, False])
def test_a_delegation_given_or_withdrawn_is_undone(store: Store, *, given: bool) -> None:
    account_id = add_dossier(store)
    conjoint = add_person(store, account_id, HUGO)
    if not given:
        dossier.give_delegation(store, open_session(store))
    since = _delegated_at(store, conjoint)
    with _at(store, INSIDE):
        session = open_session(store)
        assert (dossier.give_delegation if given else dossier.withdraw_delegation)(store, session)
    assert voiding.void(store, WINDOW) == {VoidResult.UNDONE: 1}
    assert _delegated_at(store, conjoint) == since


def _delegated_at(store: Store, person_id: UUID) -> datetime | None:
    with store.database.read() as transaction:
        return transaction.get_one(Person, person_id).delegated_at


def test_a_password_issued_in_the_window_is_revoked_and_replaced(store: Store) -> None:
    """The one that its use ended does not come back; the new one goes to the contact put back."""
    add_account(store)
    _change_mobile(store, THIEF, INSIDE)
    with _at(store, INSIDE + timedelta(days=31)):  # the contact is trusted by then (D04)
        resets.request_password(store, CAISSE, NUMBER, WEB)
        assert _destinations(store) == [THIEF]
        stolen = _last_password(store)
        assert isinstance(log_in(store, stolen), Session)
    window = replace(WINDOW, end=T2 + timedelta(days=32))
    assert voiding.void(store, window) == {VoidResult.UNDONE: 1, VoidResult.REPLACED: 1}
    assert _destinations(store) == [OWNER]
    assert log_in(store, stolen) is Refusal.REFUSED
    assert log_in(store, PASSWORD) is Refusal.REFUSED
    assert isinstance(log_in(store, _last_password(store)), Session)
    with store.database.read() as transaction:
        ended = transaction.scalars(
            select(Credential).where(Credential.ended_by == EndedBy.INCIDENT)
        ).one()
        assert ended.origin == CredentialOrigin.FORGOTTEN


def test_a_password_chosen_in_the_window_is_revoked_and_replaced(store: Store) -> None:
    account_id = add_account(store, password=None)
    with _at(store, INSIDE):
        credentials.set_secret(store, CAISSE, NUMBER, Secret(PASSWORD))
        with store.database.write() as transaction:
            chosen = transaction.scalars(select(Credential.id)).one()
            audit.note(transaction, "password-changed", INSIDE, WEB, account_id, subject_id=chosen)
    assert voiding.void(store, WINDOW) == {VoidResult.REPLACED: 1}
    assert log_in(store, PASSWORD) is Refusal.REFUSED
    assert isinstance(log_in(store, _last_password(store)), Session)


def test_a_password_still_on_its_way_is_revoked_with_its_message(store: Store) -> None:
    """The one in force was never ended: it stays (D03)."""
    add_account(store)
    with _at(store, INSIDE):
        resets.request_password(store, CAISSE, NUMBER, WEB)
        stolen = _last_password(store)
    assert voiding.void(store, WINDOW) == {VoidResult.REPLACED: 1}
    with store.database.read() as transaction:
        states = Counter(transaction.scalars(select(Message.state)))
    assert states == {"replaced": 1, "queued": 1}
    assert log_in(store, stolen) is Refusal.REFUSED
    assert isinstance(log_in(store, PASSWORD), Session)


def test_a_web_password_chosen_in_the_window_is_revoked(store: Store) -> None:
    add_dossier(store)
    with _at(store, INSIDE):
        make_web_account(store)
    counts = voiding.void(store, WINDOW)
    assert counts == {VoidResult.REVOKED: 1}
    with store.database.read() as transaction:
        (web,) = transaction.scalars(select(Credential).where(Credential.kind == "web-password"))
    assert (web.state, web.ended_by) == (CredentialState.ENDED, EndedBy.INCIDENT)


# Which of a web change in caisse 75 and a telephone change in caisse 75 a scope takes back.
SCOPES = [
    # channel        caisse   mobiles after
    (None, None, [OWNER, OWNER]),
    (Channel.WEB, None, [OWNER, THIEF]),
    (Channel.VOICE, None, [THIEF, OWNER]),
    (None, CAISSE, [OWNER, OWNER]),
    (None, "92", [THIEF, THIEF]),
    (Channel.WEB, "92", [THIEF, THIEF]),
]


@pytest.mark.parametrize(("channel", "caisse", "mobiles"), SCOPES)
def test_only_the_scope_asked_for(
    store: Store, channel: Channel | None, caisse: str | None, mobiles: list[str]
) -> None:
    numbers = ["0000001", "0000002"]
    for number, where in zip(numbers, (Channel.WEB, Channel.VOICE), strict=True):
        add_account(store, number)
        _change_mobile(store, THIEF, INSIDE, Origin(where), number)
    voiding.void(store, Window(T1, T2, channel, caisse))
    assert [_allocataire(store, number).mobile for number in numbers] == mobiles


def test_a_run_that_was_cut_off_is_ended_by_the_next(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between any two steps: no password is issued twice, nothing is left out."""
    numbers = [f"{number:07}" for number in range(4)]
    with _at(store, INSIDE):
        for number in numbers:
            add_account(store, number, mobile=OWNER[:-1] + number[-1])
            resets.request_password(store, CAISSE, number, WEB)
    whole = store.database.write
    for allowed in range(40):
        left = iter(range(allowed))

        @contextmanager
        def cut_off(left: Iterator[int] = left) -> Iterator[Any]:
            if next(left, None) is None:
                raise KeyboardInterrupt
            with whole() as transaction:
                yield transaction

        monkeypatch.setattr(store.database, "write", cut_off)
        try:
            counts = voiding.void(store, WINDOW)
            break
        except KeyboardInterrupt:
            continue
    assert counts == {VoidResult.REPLACED: 4}
    with store.database.read() as transaction:
        issued = transaction.scalar(
            select(func.count()).where(Credential.origin == CredentialOrigin.INCIDENT)
        )
    assert issued == 4


# The incident of 2021, made up: 7,000 dossiers in caisses 75 and 92.
DOSSIERS = 7000


@dataclass(frozen=True)
class _Kind:
    """What happened to some dossiers, and whether their people are concerned."""

    percent: int
    event: str
    at: datetime
    concerned: bool


KINDS = (
    _Kind(40, "read-payments", INSIDE, concerned=True),
    _Kind(20, "read-payments", T1, concerned=True),
    _Kind(10, "read-payments", T2, concerned=False),
    _Kind(10, "read-payments", T1 - MOMENT, concerned=False),
    _Kind(2, "contacts-changed", INSIDE, concerned=True),
    _Kind(2, "contacts-changed", T2 - MOMENT, concerned=True),
    _Kind(2, "contacts-changed", T2, concerned=False),
    _Kind(10, "login", INSIDE, concerned=False),
    _Kind(2, "password-issued", INSIDE, concerned=True),
    _Kind(2, "terms-accepted", INSIDE, concerned=False),
)
BY_PERCENT = [kind for kind in KINDS for _ in range(kind.percent)]
TWO_PERCENT = DOSSIERS // 50


def test_the_night_of_7000_dossiers_is_taken_back(store: Store) -> None:
    _make_the_night(store)
    store = replace(store, clock=lambda: AFTER)
    first = voiding.void(store, WINDOW)
    assert first == {VoidResult.UNDONE: 2 * TWO_PERCENT, VoidResult.REPLACED: TWO_PERCENT}
    mobiles, told, messages = _mobiles(store), list(voiding.concerned(store, WINDOW)), _sent(store)
    assert mobiles == {OWNER: DOSSIERS - TWO_PERCENT, THIEF: TWO_PERCENT}  # those changed at T2
    assert sorted(int(one.number) for one in told) == [
        number for number in range(DOSSIERS) if BY_PERCENT[number % 100].concerned
    ]
    assert messages == TWO_PERCENT
    assert voiding.void(store, WINDOW) == first
    assert (_mobiles(store), _sent(store)) == (mobiles, messages)
    assert list(voiding.concerned(store, WINDOW)) == told
    assert voiding.by_hand(store, WINDOW) == []


def _sent(store: Store) -> int:
    with store.database.read() as transaction:
        return transaction.scalar(select(func.count()).select_from(Message)) or 0


def _mobiles(store: Store) -> Counter[str]:
    with store.database.read() as transaction:
        people = transaction.scalars(select(Person)).all()
    return Counter(open_person(store.keys, person).mobile or "" for person in people)


def _make_the_night(store: Store) -> None:
    """Write the rows that such a night leaves, many at once."""
    accounts, people, entries, stolen = [], [], [], []
    for number in range(DOSSIERS):
        kind = BY_PERCENT[number % 100]
        account_id, person_id, credential_id = uuid4(), uuid4(), uuid4()
        changed = kind.event == "contacts-changed"
        accounts.append(
            {
                "id": account_id,
                "caisse": "75" if number % 2 else "92",
                "number": f"{number:07}",
                "situation": Situation.AFFILIE,
                "epoch": 0,
                "created_at": T1 - timedelta(days=400),
            }
        )
        data = PersonData(mobile=THIEF if changed else OWNER)
        columns = seal_person(store.keys, person_id, data)
        people.append(
            {"id": person_id, "account_id": account_id, "role": Role.ALLOCATAIRE, **columns}
        )
        if kind.event == "password-issued":
            stolen.append(_stolen(store, credential_id, account_id, kind.at))
        entries.append(
            {
                "at": kind.at,
                "event": kind.event,
                "channel": Channel.WEB,
                "account_id": account_id,
                "subject_id": person_id if changed else credential_id,
                "before_sealed": _image(store, person_id, kind.at) if changed else None,
            }
        )
    with store.database.write() as transaction:
        for model, rows in (
            (Account, accounts),
            (Person, people),
            (Credential, stolen),
            (AuditEntry, entries),
        ):
            transaction.execute(insert(cast(Table, model.__table__)), rows)
        # As the database does by itself in a minute: until then it takes these tables for empty.
        transaction.execute(text("ANALYZE"))


def _stolen(store: Store, credential_id: UUID, account_id: UUID, at: datetime) -> dict[str, Any]:
    binding = ("credential", str(account_id), str(credential_id), "password")
    return {
        "id": credential_id,
        "account_id": account_id,
        "kind": "password",
        "state": CredentialState.ACTIVE,
        "origin": CredentialOrigin.FORGOTTEN,
        "provisional": False,
        "version": 1,
        "hash_sealed": store.keys.seal(store.hasher.hash(Secret(PASSWORD)).encode(), *binding),
        "created_at": at,
    }


def _image(store: Store, person_id: UUID, at: datetime) -> bytes:
    """Give what the audit holds of a person who had the mobile OWNER."""
    row = Person(id=person_id, **seal_person(store.keys, person_id, PersonData(mobile=OWNER)))
    return before.image(store, Change("contacts-changed", at, WEB, row))


def test_who_had_chosen_a_password_before_is_not_told(store: Store) -> None:
    """R39: of two persons of a dossier, one had an account of her own by then."""
    account_id = add_dossier(store)
    add_person(store, account_id, HUGO)
    with _at(store, T1 - timedelta(hours=30)):
        make_web_account(store)
    pay(store, account_id, (T1.date().isoformat(), 1))
    with _at(store, INSIDE):
        dossier.last_payment(store, open_session(store))
    everybody = [one.role for one in voiding.concerned(store, WINDOW)]
    assert everybody == [Role.ALLOCATAIRE, Role.CONJOINT]
    told = list(voiding.concerned(store, WINDOW, except_changed_before=T1))
    assert [one.role for one in told] == [Role.CONJOINT]
    (one,) = told
    assert (one.read, one.changed, one.first, one.last) == (True, False, INSIDE, INSIDE)
    assert NUMBER not in repr(one)


def test_the_compensation_is_audited_and_nothing_is_deleted(store: Store) -> None:
    add_account(store)
    _change_mobile(store, THIEF, INSIDE)
    with store.database.read() as transaction:
        entries = transaction.scalars(select(AuditEntry.id).order_by(AuditEntry.id)).all()
    voiding.void(store, WINDOW)
    with store.database.read() as transaction:
        rows = transaction.scalars(select(AuditEntry).order_by(AuditEntry.id)).all()
        assert transaction.scalars(select(VoidedEntry.audit_id)).all() == [entries[-1]]
    assert [row.id for row in rows[:-1]] == list(entries)
    assert (rows[-1].event, rows[-1].actor) == ("voided", f"audit:{entries[-1]}")
