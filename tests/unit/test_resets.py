"""« Mot de passe oublié »: nobody can tell what came of it (D04), nor lock anybody out (D03)."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
import structlog
from sqlalchemy import func, select, update

from shared import credentials, life_cycle, outbox, resets
from shared.credentials import Expired, Refusal
from shared.life_cycle import Key
from shared.models import (
    AuditEntry,
    Base,
    Credential,
    CredentialState,
    Message,
    MessageState,
    Person,
    Role,
    Route,
    ThrottleHit,
)
from shared.origin import Origin
from shared.outbox import Rendered
from shared.people import PersonData, seal_person
from shared.resets import RequestLostError, Template, request_password
from shared.rules import Argon2, Channel, CredentialKind
from shared.secret import Secret
from shared.sessions import Session
from shared.store import Store
from shared.throttles import Bucket
from tests.gateway import VERSION
from tests.postgresql import PostgresqlServer
from tests.store import (
    CAISSE,
    NUMBER,
    OWNER,
    PASSWORD,
    STRANGER,
    CountingHasher,
    FakeClock,
    add_account,
    execute,
    log_in,
    watch,
)

OTHER_NUMBER = "7654321"
UNKNOWN_NUMBER = "9999999"
WRONG = "16042738"
LANDLINE = "+33140295308"
FORMER = "+33698765432"
FOREIGN = "+4915112345678"
NEW = PersonData(mobile=OWNER, mobile_since=date(2021, 10, 4))  # 29 days old
DAY = timedelta(days=1)
QUARTER = timedelta(minutes=15)
CUT_OVER = datetime(2022, 3, 31, 22, tzinfo=UTC)  # midnight in Paris


def ask(store: Store, caller_id: str | None = STRANGER, number: str = NUMBER) -> None:
    request_password(store, CAISSE, number, Origin(Channel.VOICE, caller_id, "call-1"))


def messages(store: Store) -> list[Message]:
    with store.database.read() as transaction:
        return list(transaction.scalars(select(Message).order_by(Message.created_at)))


def stored(store: Store) -> list[Credential]:
    with store.database.read() as transaction:
        rows = transaction.scalars(
            select(Credential).order_by(Credential.created_at, Credential.route.is_not(None))
        )
        return list(rows)


def states(store: Store) -> list[str]:
    return [credential.state for credential in stored(store)]


def count(store: Store, table: type[Base]) -> int:
    with store.database.read() as transaction:
        return transaction.scalar(select(func.count()).select_from(table)) or 0


def sent_password(store: Store, at: int = -1) -> str:
    """Read the password in a message that still waits, as its owner will."""
    password: str = json.loads(outbox.opened(store, messages(store)[at], "content"))["password"]
    return password


def set_contacts(store: Store, data: PersonData) -> None:
    """Give the allocataire these contacts."""
    with store.database.write() as transaction:
        person = transaction.scalars(select(Person)).one()
        for column, value in seal_person(store.keys, person.id, data).items():
            setattr(person, column, value)


# D04: everything looks alike


def _nothing(_store: Store) -> None:
    pass


def _contacts(**data: object) -> Callable[[Store], None]:
    return lambda store: set_contacts(store, PersonData(**data))  # type: ignore[arg-type]


def _ask_before(store: Store) -> None:
    ask(store)


def _spend_the_hour(store: Store) -> None:
    """Leave one message fewer to the hour than it may have: that of the unknown number."""
    for place in range(3):
        add_account(store, f"000000{place}", mobile=f"+3361111111{place}")
        ask(store, number=f"000000{place}")


def _lock(store: Store) -> None:
    for caller in range(5):
        log_in(store, WRONG, caller_id=f"+3319900000{caller}")


def _remove_credentials(store: Store) -> None:
    execute(store, lambda t: t.execute(Credential.__table__.delete()))  # type: ignore[attr-defined]


def _damage(store: Store) -> None:
    execute(store, lambda t: t.execute(update(Credential).values(hash_sealed=b"damaged")))


def _remove_people(store: Store) -> None:
    execute(store, lambda t: t.execute(Person.__table__.delete()))  # type: ignore[attr-defined]


def _conjoint_only(store: Store) -> None:
    execute(store, lambda t: t.execute(update(Person).values(role=Role.CONJOINT)))


@dataclass(frozen=True)
class Request:
    """A request, what comes before it, and what it leaves: (route, template, destination)."""

    before: Callable[[Store], None] = _nothing
    number: str = NUMBER
    caller_id: str | None = STRANGER
    leaves: tuple[Route, Template, str] | None = None


BY_SMS = (Route.SMS, Template.PASSWORD, OWNER)
BY_LETTER = (Route.LETTER, Template.PASSWORD, "")
LATELY = {"mobile": OWNER, "mobile_since": date(2021, 10, 4)}

REQUESTS = {
    "with a mobile": Request(leaves=BY_SMS),
    "from the caller id on file": Request(caller_id=OWNER, leaves=BY_SMS),
    "withheld caller id": Request(caller_id=None, leaves=BY_SMS),
    "unknown number": Request(number="1111111"),
    "no number": Request(number=""),
    "no mobile": Request(_contacts(), leaves=BY_LETTER),
    "landline only": Request(_contacts(landline=LANDLINE), leaves=BY_LETTER),
    "foreign mobile": Request(_contacts(mobile=FOREIGN), leaves=BY_LETTER),
    "mobile of Réunion": Request(
        _contacts(mobile="+262692123456"), leaves=(Route.SMS, Template.PASSWORD, "+262692123456")
    ),
    "mobile of Mayotte": Request(
        _contacts(mobile="+262639012345"), leaves=(Route.SMS, Template.PASSWORD, "+262639012345")
    ),
    "mobile changed 30 days ago": Request(
        _contacts(mobile=OWNER, mobile_since=date(2021, 10, 3), mobile_before=FORMER),
        leaves=BY_SMS,
    ),
    "mobile changed 29 days ago": Request(
        _contacts(**LATELY, mobile_before=FORMER),
        leaves=(Route.SMS, Template.PASSWORD_OLD_MOBILE, FORMER),
    ),
    "mobile changed lately, none before": Request(_contacts(**LATELY), leaves=BY_LETTER),
    "mobile changed lately, a foreign one before": Request(
        _contacts(**LATELY, mobile_before=FOREIGN), leaves=BY_LETTER
    ),
    "mobile taken away lately": Request(
        _contacts(mobile_since=date(2021, 11, 1), mobile_before=FORMER),
        leaves=(Route.SMS, Template.PASSWORD_OLD_MOBILE, FORMER),
    ),
    "asked for a moment ago": Request(_ask_before),
    "the hour of the service is spent": Request(_spend_the_hour),
    "locked": Request(_lock, leaves=BY_SMS),
    "no password yet": Request(_remove_credentials, leaves=BY_SMS),
    "a damaged password": Request(_damage, leaves=BY_SMS),
    "nobody in the dossier": Request(_remove_people, leaves=BY_LETTER),
    "a conjoint only": Request(_conjoint_only, leaves=BY_LETTER),
}


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
def test_every_request_looks_like_that_for_an_unknown_number(
    store: Store, hasher: CountingHasher, request_: Request
) -> None:
    """The same statements in the same order, and one Argon2 hash; only what is left differs."""
    store = with_reset(store, service_hour=3)
    add_account(store)
    seen = watch(store.database)
    ask(store, number=UNKNOWN_NUMBER)
    unknown = seen.copy()
    with structlog.testing.capture_logs():
        request_.before(store)
        before = {message.id for message in messages(store)}
        seen.clear()
        hasher.hashed = hasher.hashed_like = 0

        ask(store, request_.caller_id, request_.number)

    assert seen == unknown
    assert hasher.hashed_like == 1
    left = [message for message in messages(store) if message.id not in before]
    assert [
        (message.route, message.template, outbox.opened(store, message, "destination"))
        for message in left
    ] == ([request_.leaves] if request_.leaves else [])
    assert states(store).count(CredentialState.PENDING) == len(messages(store))


def with_reset(store: Store, **limits: int) -> Store:
    """Give the same store under other limits of D06."""
    reset = store.rules.reset.model_copy(update=limits)
    return replace(store, rules=store.rules.model_copy(update={"reset": reset}))


def test_what_a_request_leaves_in_the_audit(store: Store, clock: FakeClock) -> None:
    account_id = add_account(store)
    for number in (NUMBER, NUMBER, UNKNOWN_NUMBER):
        ask(store, number=number)
    with store.database.read() as transaction:
        rows = transaction.scalars(select(AuditEntry).order_by(AuditEntry.id)).all()
    assert [(row.event, row.account_id, row.call_id) for row in rows] == [
        ("password-issued", account_id, "call-1"),
        ("password-request-suppressed", account_id, "call-1"),
        ("password-request-suppressed", None, "call-1"),
    ]


def test_the_password_is_never_what_the_dossier_knows(store: Store, clock: FakeClock) -> None:
    """R06: of everybody in it."""
    account_id = add_account(store, landline=LANDLINE)
    conjoint = Person(id=uuid4(), account_id=account_id, role="conjoint")
    data = PersonData(
        nir="2951099126111",
        birth_date=date(1995, 10, 7),
        mobile=FORMER,
        mobile_before="+33655443322",
    )
    for column, value in seal_person(store.keys, conjoint.id, data).items():
        setattr(conjoint, column, value)
    execute(store, lambda t: t.add(conjoint))
    forbidden = [6_123_456, 1_402_953, 6_987_654, 6_554_433, 29_510_991, 7_101_995, 1_234_569]
    draws = iter([*forbidden, 50_718_264])
    ask(replace(store, chance=lambda _limit: next(draws)))
    assert sent_password(store) == "50718264"


# D03: what is in force until when


def test_the_old_password_opens_until_the_new_one_is_used(store: Store) -> None:
    add_account(store)
    ask(store)
    new = sent_password(store)
    assert isinstance(log_in(store), Session)
    assert states(store) == ["active", "pending"]
    assert isinstance(log_in(store, new), Session)
    assert states(store) == ["ended", "active"]
    assert log_in(store) is Refusal.REFUSED
    assert isinstance(log_in(store, new), Session)


def test_the_old_password_ends_on_every_channel(store: Store) -> None:
    line = store.rules.transition[0].model_copy(update={"channel": Channel.WEB})
    rules = store.rules.model_copy(update={"transition": (*store.rules.transition, line)})
    store = replace(store, rules=rules)
    add_account(store)
    ask(store)
    assert isinstance(log_in(store, sent_password(store), channel=Channel.VOICE), Session)
    assert log_in(store, channel=Channel.WEB) is Refusal.REFUSED


def test_a_newer_sms_replaces_a_pending_one(store: Store, clock: FakeClock) -> None:
    add_account(store)
    ask(store)
    first = sent_password(store)
    clock.advance(QUARTER)
    ask(store)
    replaced, waiting = messages(store)
    assert (replaced.state, replaced.ended_at) == (MessageState.REPLACED, clock.now)
    assert [replaced.content_sealed, replaced.text_sealed, replaced.destination_sealed] == [
        None
    ] * 3
    assert waiting.state == MessageState.QUEUED
    assert states(store) == ["active", "ended", "pending"]
    assert log_in(store, first) is Refusal.REFUSED
    assert isinstance(log_in(store), Session)
    assert isinstance(log_in(store, sent_password(store)), Session)


def test_a_suppressed_request_changes_nothing(store: Store) -> None:
    add_account(store)
    ask(store)
    before, waiting = sent_password(store), stored(store)[-1].id
    ask(store)
    assert sent_password(store) == before
    assert stored(store)[-1].id == waiting
    assert isinstance(log_in(store, before), Session)


def test_a_letter_under_way_ends_nothing_and_is_not_repeated(
    store: Store, clock: FakeClock
) -> None:
    add_account(store, mobile=None, landline=LANDLINE)
    ask(store)
    first = sent_password(store)
    clock.advance(10 * DAY - timedelta(microseconds=1))
    ask(store)
    ask(store, LANDLINE)  # nor from the caller id on file
    assert len(messages(store)) == 1
    clock.advance(timedelta(microseconds=1))
    ask(store)
    assert [message.state for message in messages(store)] == ["replaced", "queued"]
    assert states(store) == ["active", "ended", "pending"]
    assert log_in(store, first) is Refusal.REFUSED
    assert isinstance(log_in(store), Session)


@pytest.mark.parametrize("over", ["revoked", "used"])
def test_a_letter_that_is_over_is_under_way_no_more(
    store: Store, clock: FakeClock, over: str
) -> None:
    """D03: else its owner, who has no mobile, would be locked out until the ten days are over."""
    add_account(store, mobile=None)
    ask(store)
    if over == "used":
        assert isinstance(log_in(store, sent_password(store)), Session)
    else:
        life_cycle.revoke(store, Key(CAISSE, NUMBER), Origin(Channel.ADMIN), reissue=False)
    clock.advance(DAY)
    ask(store)
    assert states(store)[-1] == "pending"


def test_letters_are_not_counted_as_sms(store: Store, clock: FakeClock) -> None:
    """D06 limits passwords by SMS: a mobile told to an adviser serves at once."""
    add_account(store, mobile=None)
    ask(store)
    set_contacts(store, PersonData(mobile=OWNER))
    ask(store)
    assert sorted(message.route for message in messages(store)) == ["letter", "sms"]


def test_an_sms_and_a_letter_may_both_be_under_way(store: Store, clock: FakeClock) -> None:
    add_account(store, mobile=None)
    ask(store)
    by_letter = sent_password(store)
    set_contacts(store, PersonData(mobile=OWNER))
    clock.advance(QUARTER)
    ask(store)
    assert states(store) == ["active", "pending", "pending"]
    assert isinstance(log_in(store), Session)
    assert isinstance(log_in(store, by_letter), Session)
    assert states(store) == ["ended", "active", "ended"]


def test_a_code_of_four_digits_ends_when_the_password_is_used(store: Store) -> None:
    """R04, D09: not when it is sent."""
    add_account(store, password="4826")
    ask(store)
    assert isinstance(log_in(store, "4826"), Session)
    assert isinstance(log_in(store, sent_password(store)), Session)
    assert [row.state for row in stored(store) if row.kind == CredentialKind.CODE] == ["ended"]


# D06: how often


SENT: dict[str, tuple[list[timedelta], int]] = {
    "at once": ([timedelta()] * 3, 1),
    "a moment before 15 minutes": ([timedelta(), QUARTER - timedelta(microseconds=1)], 1),
    "after 15 minutes": ([timedelta(), QUARTER], 2),
    "every quarter of an hour: 3 a day": ([QUARTER] * 20, 3),
    "the fourth, a day after the first": ([timedelta(), QUARTER, QUARTER, DAY - 2 * QUARTER], 4),
    "the fourth, too soon": (
        [timedelta(), QUARTER, QUARTER, DAY - 2 * QUARTER - timedelta(microseconds=1)],
        3,
    ),
    "every day: 5 in 30 days": ([DAY] * 29, 5),
    "the sixth, 30 days after the first": ([DAY] * 5 + [26 * DAY], 6),
}


@pytest.mark.parametrize(("pauses", "sent"), SENT.values(), ids=SENT)
@pytest.mark.parametrize("caller_id", [STRANGER, OWNER], ids=["stranger", "owner"])
def test_how_often_a_password_is_sent(
    store: Store, clock: FakeClock, caller_id: str, pauses: list[timedelta], sent: int
) -> None:
    add_account(store)
    for pause in pauses:
        clock.advance(pause)
        ask(store, caller_id)
    assert len(messages(store)) == sent


def test_a_telephone_gets_three_a_day(store: Store, clock: FakeClock) -> None:
    """Whatever the dossiers: one number may stand in several."""
    for place in range(5):
        add_account(store, f"000000{place}")
        ask(store, number=f"000000{place}")
    assert len(messages(store)) == 3
    add_account(store, "0000009", mobile=FORMER)
    ask(store, number="0000009")
    assert len(messages(store)) == 4
    clock.advance(DAY)
    ask(store, number="0000004")
    assert len(messages(store)) == 5


def test_the_hour_of_the_service(store: Store, clock: FakeClock) -> None:
    store = with_reset(store, service_hour=2)
    for place in range(3):
        add_account(store, f"000000{place}", mobile=f"+3361111111{place}")
    with structlog.testing.capture_logs() as logs:
        for place in range(3):
            ask(store, number=f"000000{place}")
    assert len(messages(store)) == 2
    assert [entry["event"] for entry in logs] == ["password_budget_spent"]
    clock.advance(timedelta(hours=1))
    ask(store, number="0000002")
    assert len(messages(store)) == 3


def test_a_hundred_strangers_send_three_and_lock_nobody(store: Store, clock: FakeClock) -> None:
    add_account(store)
    for caller in range(100):
        ask(store, f"+331990000{caller:02}")
        clock.advance(timedelta(minutes=10))
    assert len(messages(store)) == 3
    assert isinstance(log_in(store), Session)
    ask(store, OWNER)
    assert len(messages(store)) == 4
    assert isinstance(log_in(store, sent_password(store)), Session)


# D02: how long it lives


LIVES = {
    "provisional, the last second": (datetime(2021, 10, 8, 21, 59, 59, tzinfo=UTC), None, 61 * DAY),
    "final, midnight in Paris": (datetime(2021, 10, 8, 22, 0, tzinfo=UTC), None, 730 * DAY),
    "final, the cut-over far away": (
        datetime(2021, 11, 2, tzinfo=UTC),
        datetime(2024, 1, 1, tzinfo=UTC),
        730 * DAY,
    ),
    "final, until the cut-over": (
        datetime(2022, 3, 1, 22, 0, tzinfo=UTC),
        CUT_OVER,
        30 * DAY,
    ),
    "provisional, whatever the cut-over": (datetime(2021, 10, 1, tzinfo=UTC), CUT_OVER, 61 * DAY),
}


@pytest.mark.parametrize(("now", "cut_over", "life"), LIVES.values(), ids=LIVES)
def test_how_long_it_lives(
    store: Store, clock: FakeClock, now: datetime, cut_over: datetime | None, life: timedelta
) -> None:
    store = with_cut_over(store, cut_over)
    clock.now = now
    add_account(store)
    ask(store)
    assert stored(store)[-1].expires_at == now + life
    new = sent_password(store)
    clock.now = now + life - timedelta(microseconds=1)
    assert isinstance(log_in(store, new), Session)


def test_an_unused_one_ends_with_its_validity(store: Store, clock: FakeClock) -> None:
    clock.now = datetime(2021, 10, 1, tzinfo=UTC)
    add_account(store)
    ask(store)
    new = sent_password(store)
    clock.advance(61 * DAY)
    assert log_in(store, new) == Expired(clock.now)
    assert isinstance(log_in(store), Session)


def test_none_is_sent_when_none_opens_anything(store: Store, clock: FakeClock) -> None:
    """D10: after the cut-over."""
    store = with_cut_over(store, CUT_OVER)
    add_account(store)
    clock.now = CUT_OVER
    ask(store)
    assert messages(store) == []


def with_cut_over(store: Store, cut_over: datetime | None) -> Store:
    """Give the same store with an end of the password on the telephone."""
    line = store.rules.transition[0].model_copy(update={"until": cut_over})
    return replace(store, rules=store.rules.model_copy(update={"transition": (line,)}))


# D05: pending passwords and the throttles


def test_wrong_tries_against_a_pending_password_are_counted(store: Store) -> None:
    add_account(store, password=None)
    ask(store)
    _lock(store)
    assert log_in(store, sent_password(store)) is Refusal.REFUSED
    assert isinstance(log_in(store, sent_password(store), caller_id=OWNER), Session)


def test_the_new_password_gets_in_when_thirty_failures_shut_others_out(
    store: Store, clock: FakeClock
) -> None:
    add_account(store)
    for failure in range(30):
        log_in(store, WRONG, caller_id=f"+33199000{failure:03}")
        clock.advance(timedelta(hours=6))
    clock.advance(DAY)
    assert log_in(store) is Refusal.REFUSED
    ask(store)
    new = sent_password(store)
    clock.advance(DAY)
    assert log_in(store) is Refusal.REFUSED  # the old one opens nothing for a stranger yet
    assert isinstance(log_in(store, new), Session)
    assert isinstance(log_in(store, new, caller_id="+33199111111"), Session)
    with store.database.read() as transaction:
        in_row = select(func.count()).where(ThrottleHit.bucket == Bucket.ACCOUNT_ROW)
        assert transaction.scalar(in_row) == 0


# One computation tests old and new


def test_a_login_computes_once_whatever_is_pending(store: Store, hasher: CountingHasher) -> None:
    """D07."""
    add_account(store, mobile=None)
    ask(store)
    set_contacts(store, PersonData(mobile=OWNER))
    ask(store, OWNER)
    assert states(store) == ["active", "pending", "pending"]
    hasher.compared = 0
    assert log_in(store, WRONG) is Refusal.REFUSED
    assert (hasher.compared, hasher.pretended) == (1, 0)


DEARER = Argon2(memory_kib=16, passes=1, lanes=1)


def test_no_hash_is_renewed_while_another_shares_its_salt(store: Store) -> None:
    add_account(store)
    ask(store)
    hasher = CountingHasher(DEARER)
    dearer = replace(store, hasher=hasher)
    assert isinstance(log_in(dearer), Session)
    assert [row.version for row in stored(store)] == [1, 1]
    new = sent_password(store)
    assert isinstance(log_in(dearer, new), Session)
    assert hasher.hashed == 0
    assert isinstance(log_in(dearer, new), Session)  # alone now
    assert hasher.hashed == 1
    assert [row.version for row in stored(store)] == [1, 2]


def test_a_hash_renewed_while_a_password_is_issued_is_not_kept(store: Store) -> None:
    """The login began before the request, and ends after it."""
    add_account(store)
    dearer = CountingHasher(DEARER)
    dearer.meanwhile = lambda: ask(store)
    assert isinstance(log_in(replace(store, hasher=dearer)), Session)
    assert [row.version for row in stored(store)] == [1, 1]
    assert isinstance(log_in(store), Session)
    assert isinstance(log_in(store, sent_password(store)), Session)


class Interrupting(CountingHasher):
    """Lets something happen between reading and issuing."""

    def __init__(self, *acts: Callable[[], object]) -> None:
        super().__init__()
        self._acts = iter(acts)

    def hash_like(self, secret: Secret, other: str | None) -> str:
        hashed = super().hash_like(secret, other)
        next(self._acts, lambda: None)()
        return hashed


def test_credentials_that_change_meanwhile_are_read_again(store: Store) -> None:
    add_account(store)

    def renew() -> None:
        log_in(replace(store, hasher=CountingHasher(DEARER)))

    hasher = Interrupting(renew)
    ask(replace(store, hasher=hasher))
    assert hasher.hashed_like == 2
    assert stored(store)[0].version == 2
    assert isinstance(log_in(store), Session)
    assert isinstance(log_in(store, sent_password(store)), Session)


def test_an_account_made_meanwhile_is_read_again(store: Store) -> None:
    hasher = Interrupting(lambda: add_account(store))
    ask(replace(store, hasher=hasher))
    assert isinstance(log_in(store, sent_password(store)), Session)


def test_a_request_that_never_finds_them_unchanged_is_lost(store: Store) -> None:
    add_account(store)

    def change() -> None:
        credentials.set_secret(store, CAISSE, NUMBER, Secret(PASSWORD))

    with pytest.raises(RequestLostError):
        ask(replace(store, hasher=Interrupting(*[change] * resets.TRIES)))
    assert messages(store) == []


# D12: where the password is


def by_content(_: str, known: Mapping[str, str]) -> Rendered:
    return Rendered(known["password"], VERSION)


def test_the_password_is_in_its_message_only(
    store: Store, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    add_account(store)
    new = "27182818"
    with structlog.testing.capture_logs() as logs:
        ask(replace(store, chance=lambda _limit: int(new)))
        [claimed] = outbox.claim(store, "file", by_content, 1)
        assert isinstance(log_in(store, new), Session)
    assert claimed.text.reveal() == new
    shown = [repr(messages(store)), repr(stored(store)), repr(claimed), repr(logs)]
    files = tmp_path.glob("store.db*")
    if not store.database.sqlite:
        server: PostgresqlServer = request.getfixturevalue("postgresql")
        server.execute("CHECKPOINT")
        files = (path for path in server.data.rglob("*") if path.is_file())
    on_disk = b"\n".join(path.read_bytes() for path in files)
    assert NUMBER.encode() in on_disk  # in clear (D13): the search does find things
    assert new.encode() not in on_disk
    assert OWNER[3:].encode() not in on_disk
    assert [text for text in shown if new in text or OWNER[3:] in text or NUMBER in text] == []


def test_what_is_read_of_a_dossier_shows_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_account(store, landline=LANDLINE)
    shown: list[str] = []

    def issue(_store: Store, issued: object) -> bool:
        shown.append(repr(issued))
        return True

    monkeypatch.setattr(resets, "_issue", issue)
    ask(replace(store, chance=lambda _limit: 50_718_264))
    [text] = shown
    for value in (NUMBER, OWNER[3:], LANDLINE[3:], STRANGER[3:], "50718264", "argon2"):
        assert value not in text
