"""The bascule: a person's first login on the web, with NIR and the dossier's password (R18)."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date, timedelta
from uuid import UUID

import pytest
from sqlalchemy import func, select, update

from shared import bascule, credentials, dossier, recovery, web_accounts
from shared.bascule import StepMissingError
from shared.credentials import Expired, Refusal
from shared.errors import SessionEndedError
from shared.models import (
    Account,
    AuditEntry,
    Continuation,
    Credential,
    CredentialState,
    Route,
    WebAccount,
)
from shared.rules import Channel
from shared.secret import Secret
from shared.sessions import Session
from shared.store import Store
from shared.web_passwords import Fault
from tests.store import (
    CAISSE,
    NUMBER,
    OWNER,
    PASSWORD,
    SECOND,
    CountingHasher,
    FakeClock,
    execute,
    log_in,
    watch,
)
from tests.web import (
    CLAIRE,
    HUGO,
    HUGO_NIR,
    MAIL,
    NIR,
    OPENING,
    OTHER_WEB_PASSWORD,
    UNKNOWN_NIR,
    WEB_PASSWORD,
    add_dossier,
    add_person,
    last_code,
    make_web_account,
    sent,
    web,
    web_login,
    wrong_code,
)

WRONG = "16042738"
CHOSEN = Secret(WEB_PASSWORD)


def begin(
    store: Store, nir: str = NIR, password: str = PASSWORD, address: str = "203.0.113.7"
) -> Session | Expired | Refusal:
    return bascule.begin(store, nir, Secret(password), web(address))


def begun(store: Store, nir: str = NIR, password: str = PASSWORD) -> Session:
    steps = begin(store, nir, password)
    assert isinstance(steps, Session)
    return steps


def chosen(store: Store) -> Session:
    """Give a bascule whose terms are accepted and whose password is chosen."""
    steps = begun(store)
    bascule.accept_terms(store, steps)
    assert bascule.choose_password(store, steps, CHOSEN) == frozenset()
    return steps


def confirming(store: Store, rule: str) -> Store:
    """Give the same store with another rule for the confirmation of contacts."""
    changed = store.rules.bascule.model_copy(update={"contact_confirmation": rule})
    return replace(store, rules=store.rules.model_copy(update={"bascule": changed}))


def is_account(store: Store) -> bool:
    with store.database.read() as transaction:
        return transaction.scalar(select(func.count()).select_from(WebAccount)) == 1


# From the first step to the last


def test_the_whole_way(store: Store) -> None:
    account = add_dossier(store)
    steps = chosen(store)
    code_id = bascule.send_code(store, steps, Route.SMS)
    assert code_id is not None
    assert bascule.confirm_contact(store, steps, code_id, last_code(store), web())
    bascule.finish(store, steps)

    sessions = web_accounts.verify(store, web_login(), web())
    assert isinstance(sessions, tuple)
    assert [session.account_id for session in sessions] == [account]
    with store.database.read() as transaction:
        events = transaction.scalars(select(AuditEntry.event).order_by(AuditEntry.id)).all()
    assert events == [
        "login",
        "terms-accepted",
        "code-sent",
        "code-used",
        "web-account-created",
        "login",
    ]


def test_the_steps_keep_no_hash_once_the_account_is_made(store: Store) -> None:
    """D13."""
    add_dossier(store)
    bascule.finish(store, chosen(store))
    with store.database.read() as transaction:
        assert transaction.scalars(select(Continuation.hash_sealed)).all() == [None]


def test_the_person_is_told(store: Store) -> None:
    """R23: to the mobile on file, by mail if there is none."""
    add_dossier(store)
    make_web_account(store)
    [message] = sent(store)
    assert (message.route, message.template) == (Route.SMS, "web-account-created")
    assert (message.destination, message.content) == (OWNER, {})


@pytest.mark.parametrize(
    ("email", "told"), [(MAIL, [(Route.MAIL, MAIL)]), (None, [])], ids=["by mail", "not at all"]
)
def test_who_has_no_mobile_is_told_by_mail(
    store: Store, email: str | None, told: list[tuple[Route, str]]
) -> None:
    add_dossier(store, owner=replace(CLAIRE, mobile=None, email=email))
    make_web_account(store)
    assert [(message.route, message.destination) for message in sent(store)] == told


def test_the_conjoint_does_it_too_with_the_same_password(store: Store) -> None:
    add_person(store, add_dossier(store), HUGO)
    make_web_account(store)
    make_web_account(store, HUGO_NIR, OTHER_WEB_PASSWORD)
    assert isinstance(web_accounts.verify(store, web_login(), web()), tuple)
    hugo = web_accounts.verify(store, web_login(OTHER_WEB_PASSWORD, HUGO_NIR), web())
    assert isinstance(hugo, tuple)


def test_of_several_dossiers_the_one_affiliated_last_is_compared(
    store: Store, clock: FakeClock
) -> None:
    add_dossier(store)
    clock.advance(timedelta(days=1))
    add_dossier(store, "7654321", password="50718264")
    clock.advance(timedelta(days=1))
    closed = add_dossier(store, "1111111", password="62840395")
    execute(
        store,
        lambda t: t.execute(
            update(Account).where(Account.id == closed).values(closed_at=store.clock())
        ),
    )
    assert begin(store) is Refusal.REFUSED
    assert begin(store, password="62840395", address="203.0.113.8") is Refusal.REFUSED
    assert isinstance(begin(store, password="50718264", address="203.0.113.9"), Session)


def test_the_telephone_keeps_number_and_password(store: Store) -> None:
    """R19."""
    add_dossier(store)
    make_web_account(store)
    assert isinstance(log_in(store), Session)


def test_a_password_that_was_sent_is_used_for_the_first_time_here(store: Store) -> None:
    """D03: its first use, on whatever channel, ends the one before."""
    add_dossier(store)
    execute(
        store,
        lambda t: t.execute(update(Credential).values(state=CredentialState.PENDING, route="sms")),
    )
    begun(store)
    with store.database.read() as transaction:
        assert transaction.scalars(select(Credential.state)).all() == [CredentialState.ACTIVE]


# When, and how often


@pytest.mark.parametrize("channel", [Channel.WEB, Channel.APP])
def test_it_opens_on_9_october_2021_in_paris(
    store: Store, clock: FakeClock, channel: Channel
) -> None:
    add_dossier(store)
    clock.now = OPENING - SECOND
    origin = web(channel=channel)
    assert bascule.begin(store, NIR, Secret(PASSWORD), origin) is Refusal.REFUSED
    clock.now = OPENING
    assert isinstance(bascule.begin(store, NIR, Secret(PASSWORD), origin), Session)


def test_each_person_does_it_once(store: Store) -> None:
    add_dossier(store)
    make_web_account(store)
    assert begin(store) is Refusal.REFUSED


def test_of_two_at_once_one_makes_the_account(store: Store) -> None:
    add_dossier(store)
    both = [chosen(store), chosen(store)]

    def finish(steps: Session) -> bool:
        try:
            bascule.finish(store, steps)
        except SessionEndedError:
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(finish, both)) == [False, True]
    assert is_account(store)


def test_its_steps_are_over_after_half_an_hour(store: Store, clock: FakeClock) -> None:
    add_dossier(store)
    steps = begun(store)
    clock.advance(timedelta(minutes=30) - SECOND)
    bascule.accept_terms(store, steps)
    clock.advance(SECOND)
    with pytest.raises(SessionEndedError):
        bascule.choose_password(store, steps, CHOSEN)


def test_an_incident_ends_its_steps(store: Store) -> None:
    """D15: they are a session like others."""
    add_dossier(store)
    steps = chosen(store)
    execute(store, lambda t: t.execute(update(Account).values(epoch=1)))
    with pytest.raises(SessionEndedError):
        bascule.finish(store, steps)
    assert not is_account(store)


# Each step in its place


def test_no_password_before_the_terms(store: Store) -> None:
    add_dossier(store)
    with pytest.raises(StepMissingError):
        bascule.choose_password(store, begun(store), CHOSEN)


@pytest.mark.parametrize(
    "step",
    [
        pytest.param(bascule.finish, id="finish"),
        pytest.param(
            lambda store, steps: bascule.send_code(store, steps, Route.SMS), id="send a code"
        ),
    ],
)
def test_nothing_further_before_the_password(
    store: Store, step: Callable[[Store, Session], object]
) -> None:
    add_dossier(store)
    steps = begun(store)
    bascule.accept_terms(store, steps)
    with pytest.raises(StepMissingError):
        step(store, steps)


def test_a_bad_password_may_be_chosen_again(store: Store) -> None:
    add_dossier(store)
    steps = begun(store)
    bascule.accept_terms(store, steps)
    assert bascule.choose_password(store, steps, Secret("court")) >= {Fault.TOO_SHORT}
    assert bascule.choose_password(store, steps, CHOSEN) == frozenset()
    bascule.finish(store, steps)
    assert isinstance(web_accounts.verify(store, web_login(), web()), tuple)


def test_the_confirmation_can_be_skipped_unless_it_is_required(store: Store) -> None:
    add_dossier(store)
    strict = confirming(store, "required")
    steps = chosen(strict)
    with pytest.raises(StepMissingError):
        bascule.finish(strict, steps)
    code_id = bascule.send_code(strict, steps, Route.MAIL)
    assert code_id is not None
    assert not bascule.confirm_contact(strict, steps, code_id, wrong_code(strict), web())
    with pytest.raises(StepMissingError):
        bascule.finish(strict, steps)
    assert bascule.confirm_contact(strict, steps, code_id, last_code(strict), web())
    bascule.finish(strict, steps)
    assert is_account(store)


def test_a_contact_changed_lately_confirms_nothing(store: Store) -> None:
    """D04: the code goes to the mobile before, and to no mail address at all."""
    before = "+33698765432"
    owner = replace(
        CLAIRE,
        mobile_since=date(2021, 10, 30),
        mobile_before=before,
        email_since=date(2021, 10, 30),
    )
    add_dossier(store, owner=owner)
    steps = chosen(store)
    assert bascule.send_code(store, steps, Route.MAIL) is None
    assert bascule.send_code(store, steps, Route.SMS) is not None
    assert [message.destination for message in sent(store)] == [before]


def test_anothers_code_confirms_nothing(store: Store) -> None:
    add_person(store, add_dossier(store), HUGO)
    steps = chosen(store)
    hugos = begun(store, HUGO_NIR)
    bascule.accept_terms(store, hugos)
    bascule.choose_password(store, hugos, CHOSEN)
    code_id = bascule.send_code(store, hugos, Route.SMS)
    assert code_id is not None
    assert not bascule.confirm_contact(store, steps, code_id, last_code(store), web())
    with pytest.raises(StepMissingError):
        bascule.finish(confirming(store, "required"), steps)


# What the steps are no good for


def test_the_steps_open_no_dossier(store: Store) -> None:
    add_dossier(store)
    with pytest.raises(SessionEndedError):
        dossier.last_payment(store, begun(store))


def test_the_steps_recover_no_password(store: Store) -> None:
    """Who has the dossier's password must not get at the web password of somebody in it."""
    add_dossier(store)
    with pytest.raises(SessionEndedError):
        recovery.choose_password(store, begun(store), CHOSEN)
    steps = begun(store)
    make_web_account(store)
    with pytest.raises(SessionEndedError):
        bascule.accept_terms(store, steps)


def test_a_login_is_no_bascule(store: Store) -> None:
    add_dossier(store)
    phone = log_in(store)
    assert isinstance(phone, Session)
    with pytest.raises(SessionEndedError):
        bascule.accept_terms(store, phone)


def test_the_steps_end_with_the_last(store: Store) -> None:
    add_dossier(store)
    steps = chosen(store)
    bascule.finish(store, steps)
    with pytest.raises(SessionEndedError):
        bascule.finish(store, steps)


def test_the_hash_opens_in_its_own_steps_only(store: Store) -> None:
    """D13: moved to another row by whoever has the database alone, it is refused."""
    add_person(store, add_dossier(store), HUGO)
    steps, hugos = chosen(store), begun(store, HUGO_NIR)
    with store.database.read() as transaction:
        sealed = transaction.get_one(Continuation, steps.token_hash).hash_sealed
    execute(store, lambda t: t.execute(update(Continuation).values(hash_sealed=sealed)))
    with pytest.raises(Exception, match="not sealed for this row"):
        bascule.finish(store, hugos)


# Refusals


def lock(store: Store) -> None:
    for tried in range(5):
        begin(store, password=WRONG, address=f"198.51.100.{tried}")


def close(store: Store) -> None:
    execute(store, lambda t: t.execute(update(Account).values(closed_at=store.clock())))


REFUSALS: dict[str, tuple[Callable[[Store], object], str, str]] = {
    "wrong password": (lambda _: None, NIR, WRONG),
    "done already": (make_web_account, NIR, PASSWORD),
    "locked": (lock, NIR, PASSWORD),
    "dossier closed": (close, NIR, PASSWORD),
    "the 4-digit code": (
        lambda store: credentials.set_secret(store, CAISSE, NUMBER, Secret("4826")),
        NIR,
        "4826",
    ),
}


@pytest.mark.parametrize(("before", "nir", "password"), REFUSALS.values(), ids=REFUSALS)
def test_no_refusal_can_be_told_from_another(
    store: Store,
    hasher: CountingHasher,
    before: Callable[[Store], object],
    nir: str,
    password: str,
) -> None:
    """D07: the statements of an unknown NIR, and one Argon2 computation at the same place."""
    add_dossier(store)
    seen = watch(store.database)
    hasher.meanwhile = lambda: seen.append("ARGON2")
    assert begin(store, UNKNOWN_NIR, address="203.0.113.99") is Refusal.REFUSED
    unknown = seen.copy()
    before(store)
    seen.clear()
    assert begin(store, nir, password) is Refusal.REFUSED
    assert seen == unknown
    assert seen.count("ARGON2") == 1


def test_its_failures_are_the_dossiers(store: Store) -> None:
    """D05: the web gives no second chance to guess the telephone's password, nor each NIR one."""
    add_person(store, add_dossier(store), HUGO)
    for tried in range(5):
        nir = HUGO_NIR if tried % 2 else NIR
        begin(store, nir, WRONG, f"198.51.100.{tried}")
    assert begin(store, HUGO_NIR) is Refusal.REFUSED
    assert log_in(store) is Refusal.REFUSED
    assert isinstance(log_in(store, caller_id=OWNER), Session)


def test_a_right_but_expired_password_may_be_told_so(store: Store, clock: FakeClock) -> None:
    add_dossier(store, password=None)
    credentials.set_secret(store, CAISSE, NUMBER, Secret(PASSWORD), clock.now)
    assert begin(store) == Expired(clock.now)


def test_ids_are_of_steps(store: Store) -> None:
    """A code's id that nobody was given confirms nothing."""
    add_dossier(store)
    assert not bascule.confirm_contact(store, chosen(store), UUID(int=1), Secret("000000"), web())
