"""The dossier's password changed by its owner on the web (R05, R06, R07, R09)."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, update

from shared import (
    bascule,
    credentials,
    dossier,
    password_change,
    web_accounts,
)
from shared.credentials import Login, Refusal
from shared.errors import NotAllowedError, SessionEndedError
from shared.models import (
    AuditEntry,
    Credential,
    CredentialOrigin,
    EndedBy,
    Message,
    MessageState,
)
from shared.passwords import Fault
from shared.resets import request_password
from shared.rules import Channel, CredentialKind, Identifier
from shared.secret import Secret
from shared.sessions import Session
from shared.store import Store
from tests.store import (
    CAISSE,
    ENDS,
    NUMBER,
    OWNER,
    PASSWORD,
    SECOND,
    CountingHasher,
    FakeClock,
    execute,
    log_in,
    open_session,
    with_rules,
)
from tests.web import (
    CLAIRE,
    NIR,
    add_dossier,
    make_web_account,
    recovering,
    web,
    web_login,
    with_passage,
)

END = datetime(2021, 10, 8, 22, tzinfo=UTC)  # midnight of 9 October 2021 in Paris (R17)
NEW = Secret("50718264")
CODE = "4826"


@pytest.fixture
def clock() -> FakeClock:
    """A clock in the days when the dossier's password logged in on the web (R17)."""
    clock = FakeClock()
    clock.now = END - timedelta(days=30)
    return clock


@pytest.fixture
def shop(store: Store) -> Store:
    """The store, with a dossier."""
    add_dossier(store)
    return store


def enter(store: Store, secret: str = PASSWORD, channel: Channel = Channel.WEB) -> Session:
    """Log in with the dossier's number."""
    session = try_to_enter(store, secret, channel)
    assert isinstance(session, Session)
    return session


def try_to_enter(store: Store, secret: str, channel: Channel = Channel.WEB) -> object:
    return credentials.verify(store, Login(CAISSE, NUMBER, Secret(secret)), web(channel=channel))


def make_provisional(store: Store) -> None:
    execute(store, lambda t: t.execute(update(Credential).values(provisional=True)))


def without_passage(store: Store, channel: str) -> Store:
    """Give the same store without the line of the dossier's password on a channel (D10)."""
    key = (CredentialKind.PASSWORD, Identifier.NUMBER, channel)
    lines = tuple(line for line in store.rules.transition if line.key != key)
    return replace(store, rules=store.rules.model_copy(update={"transition": lines}))


# What a change does


@pytest.mark.parametrize("channel", [Channel.WEB, Channel.APP, Channel.KIOSK])
def test_the_new_password_is_the_one_at_once_on_every_channel(
    shop: Store, channel: Channel
) -> None:
    assert password_change.change(shop, enter(shop, channel=channel), NEW) is None
    assert isinstance(log_in(shop, NEW.reveal(), caller_id=OWNER), Session)
    assert log_in(shop, caller_id=OWNER) is Refusal.REFUSED
    enter(shop, NEW.reveal())


def test_it_is_the_owners_for_two_years(shop: Store, clock: FakeClock) -> None:
    """R07; it is provisional no more (R09)."""
    make_provisional(shop)
    password_change.change(shop, enter(shop), NEW)
    with shop.database.read() as transaction:
        old, new = transaction.scalars(select(Credential).order_by(Credential.state.desc())).all()
        noted = transaction.scalars(
            select(AuditEntry).where(AuditEntry.event == "password-changed")
        ).one()
    assert (old.state, old.ended_by, old.ended_at) == ("ended", EndedBy.REPLACED, clock.now)
    assert (new.state, new.origin, new.provisional) == ("active", CredentialOrigin.OWNER, False)
    assert new.expires_at == clock.now + timedelta(days=730)
    assert (noted.account_id, noted.subject_id) == (new.account_id, new.id)
    assert (noted.channel, noted.actor) == (Channel.WEB, "caf.fr")


def test_one_under_way_is_worth_nothing_any_more(shop: Store) -> None:
    session = enter(shop)
    request_password(shop, CAISSE, NUMBER, web())
    password_change.change(shop, session, NEW)
    with shop.database.read() as transaction:
        states = transaction.scalars(select(Credential.state)).all()
        messages = transaction.scalars(select(Message.state)).all()
    assert sorted(states) == ["active", "ended", "ended"]
    assert messages == [MessageState.REPLACED]


def test_every_other_session_ends(shop: Store) -> None:
    """The telephone's too; this one goes on."""
    this, others = enter(shop), [enter(shop), open_session(shop)]
    password_change.change(shop, this, NEW)
    for other in others:
        with pytest.raises(SessionEndedError):
            dossier.last_payment(shop, other)
    assert dossier.last_payment(shop, this) is None


def test_the_sessions_of_other_dossiers_go_on(shop: Store) -> None:
    add_dossier(shop, "7654321")
    other = open_session(shop, "7654321")
    password_change.change(shop, enter(shop), NEW)
    assert dossier.last_payment(shop, other) is None


def test_the_failures_in_a_row_are_forgotten(shop: Store) -> None:
    """D05: a newly issued password lets its owner in from anywhere."""
    strict = with_rules(shop, account_failures_in_row=2)
    session = enter(strict)
    for caller in range(2):
        log_in(strict, "00000000", caller_id=f"+3319900990{caller}")
    assert log_in(strict) is Refusal.REFUSED
    password_change.change(strict, session, NEW)
    assert isinstance(log_in(strict, NEW.reveal()), Session)


def test_of_two_at_once_one_is_done(shop: Store) -> None:
    chosen = {"50718264": enter(shop), "61829375": enter(shop)}

    def change(password: str) -> bool:
        try:
            return password_change.change(shop, chosen[password], Secret(password)) is None
        except SessionEndedError:
            return False

    with ThreadPoolExecutor(2) as pool:
        done = dict(zip(chosen, pool.map(change, chosen), strict=True))
    assert sorted(done.values()) == [False, True]
    for password, was_done in done.items():
        assert isinstance(log_in(shop, password, caller_id=OWNER), Session) == was_done


# The change that is due at the first login


def test_a_provisional_password_opens_its_change_then_the_dossier(shop: Store) -> None:
    """R09."""
    make_provisional(shop)
    session = enter(shop)
    with pytest.raises(SessionEndedError):
        dossier.last_payment(shop, session)
    assert password_change.change(shop, session, NEW) is None
    assert dossier.last_payment(shop, session) is None


@pytest.mark.parametrize("channel", [Channel.WEB, Channel.APP, Channel.KIOSK])
def test_the_old_code_opens_the_choice_of_a_password(store: Store, channel: Channel) -> None:
    """R05, where the table opens it: it ships closed (D09). R04: then the code is over."""
    add_dossier(store, password=CODE)
    assert try_to_enter(store, CODE, channel) is Refusal.REFUSED
    opened = with_passage(store, credential="code", identifier="number", channel=channel)
    session = enter(opened, CODE, channel)
    with pytest.raises(SessionEndedError):
        dossier.last_payment(opened, session)
    assert password_change.change(opened, session, NEW) is None
    assert dossier.last_payment(opened, session) is None
    assert log_in(opened, CODE, caller_id=OWNER) is Refusal.REFUSED
    assert isinstance(log_in(opened, NEW.reveal(), caller_id=OWNER), Session)


def test_the_old_code_opens_all_that_it_did_on_the_telephone(store: Store) -> None:
    """R03."""
    add_dossier(store, password=CODE)
    session = log_in(store, CODE)
    assert isinstance(session, Session)
    assert dossier.last_payment(store, session) is None


# What can't be chosen

REFUSED = {
    "eight identical": ("11111111", Fault.GUESSABLE),
    "eight successive": ("23456789", Fault.GUESSABLE),
    "a birth date": ("07101995", Fault.GUESSABLE),
    "the mobile": ("06123456", Fault.GUESSABLE),
    "the mobile before it": ("06987654", Fault.GUESSABLE),
    "the beginning of the NIR": ("29510991", Fault.GUESSABLE),
    "the number and a digit": (NUMBER + "9", Fault.GUESSABLE),
    "the one to be changed": (PASSWORD, Fault.UNCHANGED),
    "seven digits": ("8392741", Fault.NOT_EIGHT_DIGITS),
    "nine digits": ("839274150", Fault.NOT_EIGHT_DIGITS),
    "a letter": ("8392741a", Fault.NOT_EIGHT_DIGITS),
    "Arabic digits": ("٨٣٩٢٧٤١٦", Fault.NOT_EIGHT_DIGITS),
    "nothing": ("", Fault.NOT_EIGHT_DIGITS),
}


@pytest.mark.parametrize(("password", "fault"), REFUSED.values(), ids=REFUSED)
def test_what_can_not_be_chosen_changes_nothing(store: Store, password: str, fault: Fault) -> None:
    add_dossier(store, owner=replace(CLAIRE, mobile_before="+33698765432"))
    session, other = enter(store), enter(store)
    assert password_change.change(store, session, Secret(password)) is fault
    assert dossier.last_payment(store, other) is None
    enter(store)


def test_one_that_is_under_way_is_no_change(shop: Store, clock: FakeClock) -> None:
    """It was sent by the store: it stands in an SMS."""
    session = enter(shop)
    drawn = int(NEW.reveal())
    request_password(replace(shop, chance=lambda _: drawn), CAISSE, NUMBER, web())
    assert password_change.change(shop, session, NEW) is Fault.UNCHANGED


def test_a_change_costs_one_comparison_and_one_hash(shop: Store, hasher: CountingHasher) -> None:
    session = enter(shop)
    compared, hashed = hasher.compared, hasher.hashed
    password_change.change(shop, session, NEW)
    assert (hasher.compared, hasher.hashed) == (compared + 1, hashed + 1)


# Who may, where and when


def test_until_the_last_second_of_the_number_on_the_web(shop: Store, clock: FakeClock) -> None:
    """R17, D02, D10: from 9 October 2021, 00:00 in Paris, nobody chooses one any more."""
    clock.now = END - SECOND
    session, late = enter(shop), enter(shop)
    clock.now = END
    with pytest.raises(NotAllowedError):
        password_change.change(shop, late, NEW)
    clock.now = END - SECOND
    assert password_change.change(shop, session, NEW) is None


def test_nobody_chooses_one_on_the_telephone(shop: Store) -> None:
    """R03."""
    with pytest.raises(NotAllowedError):
        password_change.change(shop, open_session(shop), NEW)


def of_a_person(store: Store) -> Session:
    make_web_account(store)
    opened = web_accounts.verify(store, web_login(), web())
    assert isinstance(opened, tuple)
    return opened[0]


def of_a_bascule(store: Store) -> Session:
    steps = bascule.begin(store, NIR, Secret(PASSWORD), web())
    assert isinstance(steps, Session)
    return steps


@pytest.mark.parametrize("opened", [of_a_person, of_a_bascule, recovering])
def test_a_session_of_a_person_is_not_one_of_the_dossier(
    shop: Store, clock: FakeClock, opened: Callable[[Store], Session]
) -> None:
    """D11: whoever has a NIR's password or code does not have the dossier's."""
    clock.now = END
    both_open = with_passage(
        without_passage(shop, "web"), credential="password", identifier="number", channel="web"
    )
    session = opened(both_open)
    with pytest.raises(NotAllowedError):
        password_change.change(both_open, session, NEW)
    assert password_change.change(both_open, enter(both_open), NEW) is None


@pytest.mark.parametrize("end", ENDS)
def test_a_session_that_is_over_changes_nothing(
    shop: Store, end: Callable[[Store, Session], None]
) -> None:
    session = enter(shop)
    end(shop, session)
    with pytest.raises(SessionEndedError):
        password_change.change(shop, session, NEW)
    enter(shop)


def test_a_session_made_up_changes_nothing(shop: Store) -> None:
    """Design idea 3: it names another dossier than its token opens."""
    other = add_dossier(shop, "7654321")
    session = enter(shop)
    with pytest.raises(SessionEndedError):
        password_change.change(shop, replace(session, account_id=other), NEW)
