"""A person's web password changed in an open session (R07, R12, R14)."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import func, select, update

from shared import (
    bascule,
    dossier,
    feed,
    password_change,
    provisional,
    recovery,
    sessions,
    web_accounts,
)
from shared.credentials import Refusal
from shared.errors import NotAllowedError, SessionEndedError
from shared.life_cycle import Key
from shared.models import Account, AuditEntry, Credential, Person, Role, Route, ThrottleHit
from shared.password_change import OwnChange
from shared.people import PersonData
from shared.recovery import Claim
from shared.rules import Identifier
from shared.secret import Secret
from shared.sessions import Session
from shared.store import Store
from shared.web_accounts import Holder, WebLogin
from shared.web_passwords import Fault
from tests.store import (
    CAISSE,
    ENDS,
    NUMBER,
    PASSWORD,
    CountingHasher,
    FakeClock,
    execute,
    log_in,
    open_session,
)
from tests.web import (
    CLAIRE,
    HUGO,
    HUGO_NIR,
    NIR,
    OTHER_WEB_PASSWORD,
    WEB_PASSWORD,
    add_dossier,
    add_person,
    last_code,
    make_web_account,
    recovering,
    sent,
    web,
    web_login,
)

WRONG = "Mauvais2021abc"
THIRD = "Encore2021abc"
LINH = PersonData(
    surname="Nguyen", given_names="Linh", birth_date=date(1999, 2, 28), mobile="+33611223344"
)
AWA = replace(LINH, surname="Diallo", given_names="Awa", mobile="+33611223355")


@pytest.fixture
def shop(store: Store) -> Store:
    """The store, with Claire's dossier and her account on the web."""
    add_dossier(store)
    make_web_account(store)
    return store


def enter(store: Store, password: str = WEB_PASSWORD, nir: str = NIR) -> list[Session]:
    """Log in on the web, with success."""
    return opened(store, web_login(password, nir))


def opened(store: Store, login: WebLogin) -> list[Session]:
    outcome = web_accounts.verify(store, login, web())
    assert isinstance(outcome, tuple)
    return [*outcome]


def change(
    store: Store,
    session: Session,
    current: str = WEB_PASSWORD,
    chosen: str = OTHER_WEB_PASSWORD,
    address: str = "203.0.113.7",
) -> frozenset[Fault] | Refusal:
    given = OwnChange(Secret(current), Secret(chosen))
    return password_change.change_own(store, session, given, web(address))


def is_open(store: Store, session: Session) -> bool:
    try:
        dossier.last_payment(store, session)
    except SessionEndedError:
        return False
    return True


def lets_in(store: Store, password: str) -> bool:
    return isinstance(web_accounts.verify(store, web_login(password), web()), tuple)


# What a change does


def test_the_new_password_is_the_one_at_once(shop: Store) -> None:
    [session] = enter(shop)
    assert change(shop, session) == frozenset()
    assert lets_in(shop, OTHER_WEB_PASSWORD)
    assert not lets_in(shop, WEB_PASSWORD)


def test_every_other_session_of_the_person_ends(shop: Store, clock: FakeClock) -> None:
    """In every dossier; this one goes on."""
    clock.advance(timedelta(days=1))
    add_dossier(shop, "7654321")
    others = enter(shop)
    this, sibling = enter(shop)
    change(shop, this)
    assert is_open(shop, this)
    assert [is_open(shop, one) for one in (sibling, *others)] == [False] * 3


def test_nothing_of_others_ends(store: Store) -> None:
    """The conjoint's session and password, and the dossier's on the telephone."""
    account = add_dossier(store)
    add_person(store, account, HUGO, Role.CONJOINT_ALLOCATAIRE)
    make_web_account(store)
    make_web_account(store, HUGO_NIR)
    phone = open_session(store)
    [hugos] = enter(store, nir=HUGO_NIR)
    [session] = enter(store)
    change(store, session)
    assert [is_open(store, one) for one in (phone, hugos)] == [True, True]
    assert isinstance(log_in(store), Session)
    enter(store, nir=HUGO_NIR)


def test_it_is_written_down_with_its_credential(shop: Store) -> None:
    [session] = enter(shop)
    change(shop, session)
    with shop.database.read() as transaction:
        noted = transaction.scalars(
            select(AuditEntry).where(AuditEntry.event == "web-password-changed")
        ).one()
        new = transaction.scalars(
            select(Credential).where(
                Credential.web_account_id.is_not(None), Credential.state == "active"
            )
        ).one()
        person = transaction.scalars(select(Person)).one()
    assert (noted.subject_id, noted.person_id) == (new.id, person.id)
    assert (noted.channel, noted.actor) == ("web", "caf.fr")


def test_the_feed_is_not_concerned(shop: Store) -> None:
    """It tells of the dossiers' passwords: those of persons are the web stack's own screens'."""
    [session] = enter(shop)
    told = feed.since(shop, 0)
    change(shop, session)
    assert feed.since(shop, 0) == told


# The password in force is asked for


def test_a_wrong_one_changes_nothing_and_counts_as_a_failure(
    shop: Store, hasher: CountingHasher
) -> None:
    """D05."""
    [session] = enter(shop)
    computed = hasher.compared + hasher.pretended
    assert change(shop, session, WRONG) is Refusal.REFUSED
    assert hasher.compared + hasher.pretended == computed + 1
    assert failures(shop) == {"account": 1, "account-row": 1, "caller": 1}
    assert is_open(shop, session)
    assert lets_in(shop, WEB_PASSWORD)


def failures(store: Store) -> dict[str, int]:
    """Count what stands against anybody, by bucket."""
    with store.database.read() as transaction:
        rows = transaction.execute(
            select(ThrottleHit.bucket, func.count().label("failures"))
            .where(ThrottleHit.counted)
            .group_by(ThrottleHit.bucket)
        )
        return {row.bucket: row.failures for row in rows}


def test_after_five_wrong_ones_the_right_one_is_refused_too(
    shop: Store, hasher: CountingHasher
) -> None:
    """D05, D07: in the buckets of logins, and with nothing to compare any more."""
    [session] = enter(shop)
    for tried in range(4):
        change(shop, session, WRONG, address=f"198.51.100.{tried}")
    web_accounts.verify(shop, web_login(WRONG), web("198.51.100.9"))
    compared = hasher.compared
    assert change(shop, session, address="198.51.100.10") is Refusal.REFUSED
    assert hasher.compared == compared
    assert not lets_in(shop, WEB_PASSWORD)


def test_a_change_forgets_the_failures_before_it(shop: Store) -> None:
    [session] = enter(shop)
    for tried in range(4):
        change(shop, session, WRONG, address=f"198.51.100.{tried}")
    assert change(shop, session) == frozenset()
    assert failures(shop) == {"caller": 4}


def test_of_changes_at_once_one_is_done(shop: Store) -> None:
    """In one session and in another."""
    this, other = enter(shop) + enter(shop)
    chosen = {OTHER_WEB_PASSWORD: this, THIRD: this, "Quatre2021abc": other, "Cinq2021abcd": other}

    def try_to(password: str) -> bool:
        try:
            return change(shop, chosen[password], chosen=password) == frozenset()
        except SessionEndedError:
            return False

    with ThreadPoolExecutor(4) as pool:
        done = dict(zip(chosen, pool.map(try_to, chosen), strict=True))
    assert sorted(done.values()) == [False, False, False, True]
    # The right one first: after those that came too late, three wrong ones would lock (D05).
    for password, was_done in sorted(done.items(), key=lambda one: not one[1]):
        assert lets_in(shop, password) == was_done


def test_recovered_while_it_is_compared_it_is_not_changed(
    shop: Store, hasher: CountingHasher
) -> None:
    """R12: the code's owner has the last word."""
    [session] = enter(shop)
    steps = recovering(shop)

    def recover() -> None:
        hasher.meanwhile = lambda: None
        assert recovery.choose_password(shop, steps, Secret(THIRD)) == frozenset()

    hasher.meanwhile = recover
    with pytest.raises(SessionEndedError):
        change(shop, session)
    assert lets_in(shop, THIRD)


# What can't be chosen

REFUSED = {
    "too short": ("Ab1", {Fault.TOO_SHORT}),
    "too long before July 2024": ("Abcdefgh1" + 16 * "a", {Fault.TOO_LONG}),
    "an accent": ("Éléphant2021", {Fault.FORBIDDEN_CHARACTER, Fault.NO_UPPER_CASE}),
    "the one in force": (WEB_PASSWORD, {Fault.UNCHANGED}),
}


@pytest.mark.parametrize(("chosen", "faults"), REFUSED.values(), ids=REFUSED)
def test_what_can_not_be_chosen_is_said_and_counts_as_nothing(
    shop: Store, chosen: str, faults: set[Fault]
) -> None:
    """R14."""
    [session] = enter(shop)
    assert change(shop, session, chosen=chosen) == frozenset(faults)
    assert failures(shop) == {}
    assert lets_in(shop, WEB_PASSWORD)


def test_its_shape_is_that_of_the_day(shop: Store, clock: FakeClock) -> None:
    """R14: from 4 July 2024, 00:00 in Paris, 10 to 64 characters; the old one still gets in."""
    clock.now = datetime(2024, 7, 3, 21, 59, 59, tzinfo=UTC)
    nine, long = "Abcdefg12", "Abcdefg123" + 20 * "a"
    [session] = enter(shop)
    assert change(shop, session, chosen=long) == frozenset({Fault.TOO_LONG})
    assert change(shop, session, chosen=nine) == frozenset()
    clock.advance(timedelta(seconds=1))
    [session] = enter(shop, nine)
    assert change(shop, session, nine, "Hijklmn34") == frozenset({Fault.TOO_SHORT})
    assert change(shop, session, nine, long) == frozenset()


# Whose session it is


def of_the_dossier(store: Store) -> Session:
    return open_session(store)


def of_a_bascule(store: Store) -> Session:
    add_person(store, account_id(store), HUGO)
    steps = bascule.begin(store, HUGO_NIR, Secret(PASSWORD), web())
    assert isinstance(steps, Session)
    return steps


def account_id(store: Store) -> UUID:
    with store.database.read() as transaction:
        return transaction.scalars(select(Account.id)).one()


@pytest.mark.parametrize(
    ("of_another_kind", "error"),
    [
        (of_the_dossier, NotAllowedError),
        (of_a_bascule, SessionEndedError),
        (recovering, SessionEndedError),
    ],
)
def test_only_a_persons_own_session_changes_it(
    shop: Store, of_another_kind: Callable[[Store], Session], error: type[Exception]
) -> None:
    """D11; the steps of a bascule or a recovery have a choice of their own."""
    session = of_another_kind(shop)
    with pytest.raises(error):
        change(shop, session)
    assert failures(shop) == {}
    assert lets_in(shop, WEB_PASSWORD)


@pytest.mark.parametrize("end", ENDS)
def test_a_session_that_is_over_changes_nothing(
    shop: Store, end: Callable[[Store, Session], None]
) -> None:
    [session] = enter(shop)
    end(shop, session)
    with pytest.raises(SessionEndedError):
        change(shop, session)
    assert lets_in(shop, WEB_PASSWORD)


def test_a_session_that_ends_while_it_is_compared_changes_nothing(
    shop: Store, hasher: CountingHasher
) -> None:
    [session] = enter(shop)
    hasher.meanwhile = lambda: sessions.end(shop, session)
    with pytest.raises(SessionEndedError):
        change(shop, session)
    hasher.meanwhile = lambda: None
    assert lets_in(shop, WEB_PASSWORD)


# With a provisional identifier (R20)


def with_identifier(store: Store, number: str, who: PersonData) -> WebLogin:
    """Give somebody without a NIR an identifier and a password of the web."""
    add_dossier(store, number, who, password=None)
    provisional.request(store, Key(CAISSE, number), who, web())
    identifier = f"P{sent(store)[-1].content['digits']}"
    holder = Holder(Identifier.PROVISIONAL, identifier)
    assert isinstance(store.clock, FakeClock)
    store.clock.advance(timedelta(seconds=1))
    code_id = recovery.request(store, Claim(holder, who.surname or "", Route.SMS), web())
    steps = recovery.verify(store, code_id, last_code(store), web())
    assert steps is not None
    assert recovery.choose_password(store, steps, Secret(WEB_PASSWORD)) == frozenset()
    store.clock.advance(timedelta(seconds=1))
    return WebLogin(holder, Secret(WEB_PASSWORD))


def test_who_has_no_nir_changes_it_too(store: Store) -> None:
    login = with_identifier(store, NUMBER, LINH)
    [session] = opened(store, login)
    assert change(store, session, WRONG) is Refusal.REFUSED
    assert change(store, session) == frozenset()
    assert opened(store, replace(login, secret=Secret(OTHER_WEB_PASSWORD)))


def test_it_ends_nothing_of_others_without_a_nir(store: Store) -> None:
    linhs = with_identifier(store, NUMBER, LINH)
    awas = with_identifier(store, "0000002", AWA)
    [awa] = opened(store, awas)
    [linh] = opened(store, linhs)
    change(store, linh)
    assert is_open(store, awa)


@pytest.mark.parametrize("while_compared", [False, True], ids=["before", "meanwhile"])
def test_once_there_is_a_nir_nothing_carries_over(
    store: Store, hasher: CountingHasher, *, while_compared: bool
) -> None:
    """R20: only the NIR logs in, after « mot de passe oublié »."""
    [session] = opened(store, with_identifier(store, NUMBER, LINH))

    def nir_comes() -> None:
        index = store.keys.index("nir", CLAIRE.nir or "")
        execute(store, lambda t: t.execute(update(Person).values(nir_index=index)))

    if while_compared:
        hasher.meanwhile = nir_comes
    else:
        nir_comes()
    assert change(store, session) is Refusal.REFUSED
    assert not lets_in(store, OTHER_WEB_PASSWORD)
