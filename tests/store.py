"""What tests of the credential store are written with: a clock, accounts, logins."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import count
from threading import Lock, current_thread
from typing import Any, TypeVar
from uuid import UUID, uuid4

from sqlalchemy import event
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session as Transaction

from shared import credentials, dossier_store, incident, sessions
from shared.credentials import Expired, Login, Refusal
from shared.database import Database
from shared.dossier_data import PAYMENTS, Payment, Section
from shared.dossier_store import ToKeep
from shared.hashing import Hasher
from shared.models import Account, Person, Role, Situation
from shared.origin import Origin
from shared.people import PersonData, seal_person
from shared.rules import Argon2, Channel, Rules, load_rules
from shared.secret import Secret
from shared.sessions import Session
from shared.store import Store

T = TypeVar("T")

CAISSE = "75"
NUMBER = "0123456"
PASSWORD = "83927415"
OWNER = "+33612345678"  # the caller id on file
STRANGER = "+33199009900"

SECOND = timedelta(seconds=1)
# Of when what is told of dossiers is: always newer than what was told before, and never too old.
ALWAYS = (datetime(2199, 1, 1, tzinfo=UTC) + n * SECOND for n in count())

CHEAP = Argon2(memory_kib=8, passes=1, lanes=1)


class FakeClock:
    """A clock that stands still until told to advance."""

    def __init__(self) -> None:
        self.now = datetime(2021, 11, 2, 9, 30, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, step: timedelta) -> None:
        self.now += step


class CountingHasher(Hasher):
    """Counts the computations that were really made, and lets a test act in the middle of one."""

    def __init__(self, costs: Argon2 = CHEAP) -> None:
        super().__init__(costs)
        self.compared = 0
        self.pretended = 0
        self.hashed = 0
        self.hashed_like = 0
        self.meanwhile: Callable[[], object] = lambda: None
        self._counting = Lock()

    def hash(self, secret: Secret) -> str:
        hashed = super().hash(secret)
        with self._counting:
            self.hashed += 1
        return hashed

    def hash_like(self, secret: Secret, other: str | None) -> str:
        hashed = super().hash_like(secret, other)
        with self._counting:
            self.hashed_like += 1
        return hashed

    def match(self, stored: Sequence[str], secret: Secret) -> str | None:
        matched = super().match(stored, secret)
        with self._counting:
            self.compared += 1
        self.meanwhile()
        return matched

    def pretend(self, secret: Secret) -> None:
        super().pretend(secret)
        with self._counting:
            self.pretended += 1
        self.meanwhile()


def cheap_rules() -> Rules:
    """Give the rules as they ship, but for the cost of a hash."""
    return load_rules().model_copy(update={"argon2": CHEAP})


def with_rules(store: Store, **limits: object) -> Store:
    """Give the same store under other limits of D05."""
    throttle = store.rules.throttle.model_copy(update=limits)
    return replace(store, rules=store.rules.model_copy(update={"throttle": throttle}))


def add_account(
    store: Store,
    number: str = NUMBER,
    password: str | None = PASSWORD,
    *,
    mobile: str | None = OWNER,
    landline: str | None = None,
    expires_at: datetime | None = None,
) -> UUID:
    """Add a dossier with its allocataire, no payment and, unless it is None, a password."""
    account = Account(
        id=uuid4(),
        caisse=CAISSE,
        number=number,
        situation=Situation.AFFILIE,
        created_at=store.clock(),
    )
    person = Person(id=uuid4(), account_id=account.id, role=Role.ALLOCATAIRE)
    contacts = seal_person(store.keys, person.id, PersonData(mobile=mobile, landline=landline))
    for column, value in contacts.items():
        setattr(person, column, value)
    with store.database.write() as transaction:
        transaction.add(account)
        transaction.flush()
        transaction.add(person)
    pay(store, account.id)
    if password is not None:
        credentials.set_secret(store, CAISSE, number, Secret(password), expires_at)
    return account.id


def tell(
    store: Store, account_id: UUID, section: Section[T], content: T, as_of: datetime | None = None
) -> None:
    """Have the information system tell a section of a dossier."""
    told = ToKeep(account_id, section, as_of or next(ALWAYS), content)
    with store.database.begin() as transaction:
        dossier_store.keep(store, transaction, [told])


def pay(store: Store, account_id: UUID, *payments: tuple[str, int]) -> None:
    """Have it tell that these, a day and euro cents each, are all payments of a dossier."""
    made = (
        Payment.model_construct(paid_on=date.fromisoformat(day), cents=cents, payee="vous")
        for day, cents in payments
    )
    tell(store, account_id, PAYMENTS, tuple(made))


def log_in(
    store: Store,
    secret: str = PASSWORD,
    *,
    number: str = NUMBER,
    caller_id: str | None = STRANGER,
    call_id: str | None = None,
    channel: Channel = Channel.VOICE,
) -> Session | Expired | Refusal:
    """Try to log in."""
    login = Login(CAISSE, number, Secret(secret))
    return credentials.verify(store, login, Origin(channel, caller_id, call_id))


def open_session(store: Store, number: str = NUMBER, call_id: str | None = None) -> Session:
    """Log in, with success."""
    session = log_in(store, number=number, call_id=call_id)
    assert isinstance(session, Session)
    return session


def ended(store: Store, session: Session) -> None:
    sessions.end(store, session)


def expired(store: Store, _session: Session) -> None:
    assert isinstance(store.clock, FakeClock)
    store.clock.advance(timedelta(minutes=store.rules.session.minutes))


def closed_by_an_incident(store: Store, _session: Session) -> None:
    incident.raise_incident(store, incident.SERVICE)
    incident.lift(store, incident.SERVICE)


ENDS = (ended, expired, closed_by_an_incident)
"""All that can end a session."""


def watch(database: Database) -> list[str]:
    """Give a list that grows by every statement sent from now on, and COMMIT at each commit.

    Without those of the watch for incidents, which asks once a second, whoever calls.
    """
    seen: list[str] = []

    def statement(_connection: object, _cursor: object, text: str, *_: object) -> None:
        if current_thread().name != "incidents":
            seen.append(text)

    event.listen(database.engine, "before_cursor_execute", statement)
    event.listen(database.engine, "commit", lambda _connection: seen.append("COMMIT"))
    return seen


def execute(store: Store, action: Callable[[Transaction], object]) -> None:
    """Change the database behind the store's back."""
    with store.database.write() as transaction:
        action(transaction)


@contextmanager
def cut_after(database: Database, statements: int) -> Iterator[None]:
    """Cut the connection at a statement from now on."""
    left = iter(range(statements))

    def cut(*_: object) -> None:
        if next(left, None) is None:
            raise OperationalError("", {}, Exception())

    event.listen(database.engine, "before_cursor_execute", cut)
    try:
        yield
    finally:
        event.remove(database.engine, "before_cursor_execute", cut)


def plans(database: Database, action: Callable[[], object]) -> list[tuple[str, str]]:
    """Give each statement of an action, and how the database does it where indexes can serve."""
    asked: list[tuple[str, Any]] = []

    def note(_connection: object, _cursor: object, text: str, values: Any, *_: object) -> None:
        asked.append((text, values))

    event.listen(database.engine, "before_cursor_execute", note)
    try:
        action()
    finally:
        event.remove(database.engine, "before_cursor_execute", note)
    explain = "EXPLAIN QUERY PLAN " if database.sqlite else "EXPLAIN "
    with database.begin() as transaction:
        if not database.sqlite:  # a small table it would rather read whole
            transaction.exec_driver_sql("SET LOCAL enable_seqscan = off")
            transaction.exec_driver_sql("SET LOCAL enable_bitmapscan = off")
        return [
            (
                text,
                "\n".join(
                    str(row[-1]) for row in transaction.exec_driver_sql(explain + text, values)
                ),
            )
            for text, values in asked
            if text.startswith(("SELECT", "UPDATE", "DELETE"))
        ]
