"""Logging in on the web with a NIR and a password of one's own (R17, R18)."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select, update

from shared import dossier, web_accounts
from shared.credentials import Refusal
from shared.errors import SessionEndedError
from shared.models import (
    Account,
    AuditEntry,
    Credential,
    CredentialState,
    LoginSession,
    Person,
    Role,
    WebAccount,
)
from shared.rules import Argon2, Channel, Identifier, Lengths
from shared.secret import Secret
from shared.sessions import Session
from shared.store import Store
from shared.web_accounts import Holder, WebLogin
from tests.store import SECOND, CountingHasher, FakeClock, execute, log_in, watch
from tests.web import (
    CLAIRE,
    HUGO,
    HUGO_NIR,
    OTHER_WEB_PASSWORD,
    UNKNOWN_NIR,
    WEB_PASSWORD,
    add_dossier,
    add_person,
    make_web_account,
    web,
    web_login,
)

BASCULE = datetime(2021, 10, 8, 22, tzinfo=UTC)  # midnight of 9 October 2021 in Paris
NOW = datetime(2021, 11, 2, tzinfo=UTC)
WRONG = "Mauvais2021abc"
PROVISIONAL = "P12345678"
RIGHT = web_login()


def verify(store: Store, login: WebLogin | None = None, address: str = "203.0.113.7") -> object:
    return web_accounts.verify(store, login or web_login(), web(address))


def opened(outcome: object) -> list[UUID]:
    """Give whose dossiers the sessions of a login are of."""
    assert isinstance(outcome, tuple)
    return [session.account_id for session in outcome]


# What a login opens


def test_the_right_password_opens_the_dossier(store: Store) -> None:
    account = add_dossier(store)
    make_web_account(store)
    assert opened(verify(store)) == [account]


def test_it_opens_every_open_dossier_the_newest_first(store: Store, clock: FakeClock) -> None:
    """D11: who has several chooses; a closed one (R08) is none of them."""
    first = add_dossier(store)
    clock.advance(timedelta(days=1))
    second = add_dossier(store, "7654321")
    clock.advance(timedelta(days=1))
    closed = add_dossier(store, "1111111")
    make_web_account(store)
    closing = update(Account).where(Account.id == closed).values(closed_at=clock.now)
    execute(store, lambda t: t.execute(closing))
    assert opened(verify(store)) == [second, first]


def test_a_session_is_the_persons(store: Store) -> None:
    """D11: not the allocataire's, whose password it is not."""
    account = add_dossier(store)
    hugo = add_person(store, account, HUGO)
    make_web_account(store, HUGO_NIR)
    assert opened(verify(store, web_login(nir=HUGO_NIR))) == [account]
    with store.database.read() as transaction:
        rows = transaction.scalars(
            select(LoginSession.person_id).where(~LoginSession.change_only)
        ).all()
    assert rows == [hugo]


def test_each_persons_password_is_their_own(store: Store) -> None:
    account = add_dossier(store)
    add_person(store, account, HUGO)
    make_web_account(store)
    make_web_account(store, HUGO_NIR, OTHER_WEB_PASSWORD)
    assert verify(store, web_login(OTHER_WEB_PASSWORD)) is Refusal.REFUSED
    assert verify(store, web_login(WEB_PASSWORD, HUGO_NIR)) is Refusal.REFUSED
    assert opened(verify(store, web_login(OTHER_WEB_PASSWORD, HUGO_NIR))) == [account]


def test_the_dossiers_password_stays_the_telephones(store: Store) -> None:
    """R19, and the web password is no use there."""
    add_dossier(store)
    make_web_account(store)
    assert isinstance(log_in(store), Session)
    assert log_in(store, WEB_PASSWORD) is Refusal.REFUSED


def test_the_dossiers_password_is_no_web_password(store: Store) -> None:
    add_dossier(store)
    make_web_account(store)
    assert verify(store, web_login("83927415")) is Refusal.REFUSED


@pytest.mark.parametrize("channel", [Channel.VOICE, Channel.KIOSK, Channel.AGENT])
def test_it_opens_on_the_web_and_in_the_app_only(store: Store, channel: Channel) -> None:
    add_dossier(store)
    make_web_account(store)
    assert web_accounts.verify(store, web_login(), web(channel=channel)) is Refusal.REFUSED
    assert isinstance(web_accounts.verify(store, web_login(), web(channel=Channel.APP)), tuple)


def test_it_opens_from_the_bascule_on(store: Store, clock: FakeClock) -> None:
    add_dossier(store)
    make_web_account(store)
    clock.now = BASCULE - SECOND
    assert verify(store) is Refusal.REFUSED
    clock.now = BASCULE
    assert isinstance(verify(store, address="198.51.100.1"), tuple)


def test_an_old_short_password_stays_good(store: Store, clock: FakeClock) -> None:
    """R14: new ones need ten characters from 2024-07-04; those there are open on."""
    add_dossier(store)
    make_web_account(store, password="Abcdefg1")
    clock.now = datetime(2024, 7, 4, tzinfo=UTC)
    assert isinstance(verify(store, web_login("Abcdefg1")), tuple)


# A provisional identifier (R20)


@pytest.mark.parametrize(
    ("shortest", "longest", "opens"),
    [
        (len(WEB_PASSWORD), len(WEB_PASSWORD), True),
        (len(WEB_PASSWORD) + 1, 64, False),
        (1, len(WEB_PASSWORD) - 1, False),
    ],
)
def test_a_length_that_is_not_accepted_opens_nothing(
    store: Store, hasher: CountingHasher, shortest: int, longest: int, *, opens: bool
) -> None:
    """R14; and it costs the one computation of any refusal (D07)."""
    add_dossier(store)
    make_web_account(store)
    accepted = Lengths(shortest=shortest, longest=longest)
    lengths = store.rules.web_password.model_copy(update={"accepted": accepted})
    store = replace(store, rules=store.rules.model_copy(update={"web_password": lengths}))
    computed = hasher.compared + hasher.pretended
    assert isinstance(verify(store), tuple) is opens
    assert hasher.compared + hasher.pretended == computed + 1


def test_a_provisional_identifier_opens_until_there_is_a_nir(store: Store) -> None:
    account = add_dossier(store, owner=replace(CLAIRE, nir=None))
    person = person_of(store, account)
    holder = Holder(Identifier.PROVISIONAL, PROVISIONAL)
    execute(
        store,
        lambda t: t.add(
            WebAccount(
                id=uuid4(),
                provisional_index=holder.index(store.keys),
                person_id=person.id,
                created_at=store.clock(),
            )
        ),
    )
    set_password(store, person, WEB_PASSWORD)
    login = WebLogin(holder, Secret(WEB_PASSWORD))
    assert opened(verify(store, login)) == [account]

    nir_index = web_login().holder.index(store.keys)
    execute(store, lambda t: t.execute(update(Person).values(nir_index=nir_index)))
    assert verify(store, login) is Refusal.REFUSED
    set_password(store, person_of(store, account), OTHER_WEB_PASSWORD)
    assert opened(verify(store, web_login(OTHER_WEB_PASSWORD))) == [account]
    with store.database.read() as transaction:
        ended = transaction.scalars(select(WebAccount).where(WebAccount.ended_at.is_not(None)))
        assert [one.provisional_index is not None for one in ended] == [True]


# What can be told, and how often one may fail


@dataclass(frozen=True)
class Attempt:
    """A login that is to be refused: what was done before it, and what is typed."""

    before: Callable[[Store], object] = lambda _: None
    login: WebLogin = RIGHT
    channel: Channel = Channel.WEB


def lock(store: Store) -> None:
    for tried in range(5):
        verify(store, web_login(WRONG), f"198.51.100.{tried}")


REFUSALS = {
    "wrong password": Attempt(login=web_login(WRONG)),
    "no account yet": Attempt(login=web_login(nir=HUGO_NIR)),
    "locked": Attempt(lock),
    "revoked": Attempt(
        lambda store: execute(
            store, lambda t: t.execute(update(Credential).values(state=CredentialState.ENDED))
        )
    ),
    "account ended": Attempt(
        lambda store: execute(
            store, lambda t: t.execute(update(WebAccount).values(ended_at=store.clock()))
        )
    ),
    "dossier closed": Attempt(
        lambda store: execute(
            store, lambda t: t.execute(update(Account).values(closed_at=store.clock()))
        )
    ),
    "another channel": Attempt(channel=Channel.KIOSK),
    "another kind of identifier": Attempt(
        login=WebLogin(Holder(Identifier.PROVISIONAL, PROVISIONAL), Secret(WEB_PASSWORD))
    ),
}


@pytest.mark.parametrize("attempt", REFUSALS.values(), ids=REFUSALS)
def test_no_refusal_can_be_told_from_another(
    store: Store, hasher: CountingHasher, attempt: Attempt
) -> None:
    """D07: the statements of an unknown NIR, and one Argon2 computation at the same place."""
    add_person(store, add_dossier(store), HUGO)
    make_web_account(store)
    seen = watch(store.database)
    hasher.meanwhile = lambda: seen.append("ARGON2")
    assert verify(store, web_login(nir=UNKNOWN_NIR), "203.0.113.99") is Refusal.REFUSED
    unknown = seen.copy()
    attempt.before(store)
    seen.clear()

    origin = web(channel=attempt.channel)
    assert web_accounts.verify(store, attempt.login, origin) is Refusal.REFUSED
    assert seen == unknown
    assert seen.count("ARGON2") == 1


def test_five_failures_lock_a_nir_for_a_day_wherever_they_come_from(
    store: Store, clock: FakeClock
) -> None:
    add_dossier(store)
    make_web_account(store)
    for tried in range(5):
        channel = Channel.APP if tried % 2 else Channel.WEB
        origin = web(f"198.51.100.{tried}", channel)
        web_accounts.verify(store, web_login(WRONG), origin)
    assert verify(store) is Refusal.REFUSED
    clock.advance(timedelta(days=1))
    assert isinstance(verify(store), tuple)


def test_the_webs_failures_do_not_lock_the_telephone(store: Store) -> None:
    """Whoever knows a NIR alone can't keep its dossier's owner from the voice server."""
    add_dossier(store)
    make_web_account(store)
    lock(store)
    assert isinstance(log_in(store), Session)


def test_a_password_replaced_while_it_is_compared_opens_nothing(
    store: Store, hasher: CountingHasher
) -> None:
    account = add_dossier(store)
    make_web_account(store)
    person = person_of(store, account)
    hasher.meanwhile = lambda: set_password(store, person, OTHER_WEB_PASSWORD)
    assert verify(store) is Refusal.REFUSED


def test_a_password_opens_the_account_it_was_sealed_for_only(store: Store) -> None:
    """D13: moved to another's account by whoever has the database alone, it is refused."""
    add_person(store, add_dossier(store), HUGO)
    make_web_account(store)
    hugos = WebAccount(
        id=uuid4(), nir_index=web_login(nir=HUGO_NIR).holder.index(store.keys), created_at=NOW
    )
    execute(store, lambda t: t.add(hugos))
    moving = (
        update(Credential)
        .where(Credential.web_account_id.is_not(None))
        .values(web_account_id=hugos.id)
    )
    execute(store, lambda t: t.execute(moving))
    assert verify(store, web_login(nir=HUGO_NIR)) is Refusal.REFUSED


def test_a_hash_of_other_costs_is_renewed(store: Store, hasher: CountingHasher) -> None:
    add_dossier(store)
    make_web_account(store)
    dearer = replace(store, hasher=CountingHasher(Argon2(memory_kib=16, passes=1, lanes=1)))
    verify(dearer)
    assert dearer.hasher.hashed == 1  # type: ignore[attr-defined]
    verify(dearer)
    assert dearer.hasher.hashed == 1  # type: ignore[attr-defined]


# A new password


def test_a_new_password_ends_the_other_and_the_sessions(store: Store) -> None:
    account = add_dossier(store)
    make_web_account(store)
    sessions = web_accounts.verify(store, web_login(), web())
    assert isinstance(sessions, tuple)
    set_password(store, person_of(store, account), OTHER_WEB_PASSWORD)

    with pytest.raises(SessionEndedError):
        dossier.last_payment(store, sessions[0])
    assert verify(store) is Refusal.REFUSED
    assert isinstance(verify(store, web_login(OTHER_WEB_PASSWORD)), tuple)


def test_a_new_password_ends_nothing_of_others(store: Store) -> None:
    account = add_dossier(store)
    add_person(store, account, HUGO, Role.CONJOINT_ALLOCATAIRE)
    make_web_account(store)
    make_web_account(store, HUGO_NIR, OTHER_WEB_PASSWORD)
    hugos = web_accounts.verify(store, web_login(OTHER_WEB_PASSWORD, HUGO_NIR), web())
    assert isinstance(hugos, tuple)
    phone = log_in(store)
    assert isinstance(phone, Session)
    set_password(store, person_of(store, account), "Encore2021abc")
    assert dossier.last_payment(store, hugos[0]) is None
    assert dossier.last_payment(store, phone) is None


def test_a_login_and_a_refusal_are_audited(store: Store) -> None:
    account = add_dossier(store)
    make_web_account(store)
    verify(store)
    verify(store, web_login(WRONG))
    with store.database.read() as transaction:
        rows = transaction.execute(
            select(AuditEntry.event, AuditEntry.account_id).order_by(AuditEntry.id)
        ).all()
    assert [tuple(row) for row in rows[-2:]] == [("login", account), ("login-refused", None)]


def test_repr_hides_who_it_is() -> None:
    assert "2951099126111" not in repr(web_login())
    assert WEB_PASSWORD not in repr(web_login())


def person_of(store: Store, account_id: UUID) -> Person:
    with store.database.read() as transaction:
        return transaction.scalars(
            select(Person).where(Person.account_id == account_id, Person.role == Role.ALLOCATAIRE)
        ).one()


def set_password(store: Store, person: Person, password: str) -> None:
    hashed = store.hasher.hash(Secret(password))
    with store.database.write() as transaction:
        web_accounts.set_password(store, transaction, person, hashed, web())
