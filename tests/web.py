"""People with a NIR, what they ask for on the web, and the messages that come of it."""

import json
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from uuid import UUID, uuid4

from sqlalchemy import select

from shared import bascule, credentials, outbox, recovery
from shared.models import Account, Message, Person, Role, Route, Situation
from shared.origin import Origin
from shared.people import PersonData, seal_person
from shared.recovery import Claim
from shared.rules import Channel, Identifier, Passage
from shared.secret import Secret
from shared.sessions import Session
from shared.store import Store
from shared.web_accounts import Holder, WebLogin
from tests.store import CAISSE, NUMBER, OWNER, PASSWORD, pay

NIR = "2951099126111"
HUGO_NIR = "1900475112001"
UNKNOWN_NIR = "1800175001001"
MAIL = "claire@exemple.fr"
OPENING = datetime(2021, 10, 8, 22, tzinfo=UTC)  # midnight of 9 October 2021 in Paris
HUGO_MOBILE = "+33698765432"
WEB_PASSWORD = "Soleil2021abc"
OTHER_WEB_PASSWORD = "Nuages2022xyz"

CLAIRE = PersonData(
    surname="Lefèvre",
    given_names="Claire",
    birth_date=date(1995, 10, 7),
    nir=NIR,
    mobile=OWNER,
    email=MAIL,
)
HUGO = PersonData(
    surname="Petit",
    given_names="Hugo",
    birth_date=date(1990, 4, 5),
    nir=HUGO_NIR,
    mobile=HUGO_MOBILE,
)
HOLDER = Holder(Identifier.NIR, NIR)
CLAIM = Claim(HOLDER, "Lefèvre", Route.SMS)


@dataclass(frozen=True)
class Sent:
    """A message in the outbox, read with the store's keys."""

    route: Route
    template: str
    destination: str
    content: dict[str, str]


def web(address: str = "203.0.113.7", channel: Channel = Channel.WEB) -> Origin:
    """Give where a person on the web comes from."""
    return Origin.for_client(channel, "caf.fr", address)


def add_dossier(
    store: Store, number: str = NUMBER, owner: PersonData = CLAIRE, password: str | None = PASSWORD
) -> UUID:
    """Add a dossier with its allocataire, no payment and, unless it is None, a password."""
    account = Account(
        id=uuid4(),
        caisse=CAISSE,
        number=number,
        situation=Situation.AFFILIE,
        created_at=store.clock(),
    )
    with store.database.write() as transaction:
        transaction.add(account)
    add_person(store, account.id, owner, Role.ALLOCATAIRE)
    pay(store, account.id)
    if password is not None:
        credentials.set_secret(store, CAISSE, number, Secret(password))
    return account.id


def add_person(
    store: Store, account_id: UUID, data: PersonData, role: Role = Role.CONJOINT
) -> UUID:
    """Add somebody to a dossier; give the person's id."""
    person_id = uuid4()
    columns = seal_person(store.keys, person_id, data)
    with store.database.write() as transaction:
        transaction.add(Person(id=person_id, account_id=account_id, role=role, **columns))
    return person_id


def make_web_account(
    store: Store, nir: str = NIR, password: str = WEB_PASSWORD, dossier_password: str = PASSWORD
) -> None:
    """Go through the bascule, with success."""
    steps = bascule.begin(store, nir, Secret(dossier_password), web())
    assert isinstance(steps, Session)
    bascule.accept_terms(store, steps)
    assert bascule.choose_password(store, steps, Secret(password)) == frozenset()
    bascule.finish(store, steps)


def recovering(store: Store) -> Session:
    """Give what the right code opens to who forgot the password."""
    code_id = recovery.request(store, CLAIM, web())
    steps = recovery.verify(store, code_id, last_code(store), web())
    assert steps is not None
    return steps


def web_login(password: str = WEB_PASSWORD, nir: str = NIR) -> WebLogin:
    """Give what somebody types on the web."""
    return WebLogin(Holder(Identifier.NIR, nir), Secret(password))


def sent(store: Store) -> list[Sent]:
    """Give every message in the outbox, oldest first."""
    with store.database.read() as transaction:
        rows = transaction.scalars(select(Message).order_by(Message.created_at)).all()
    return [
        Sent(
            route=Route(row.route),
            template=row.template,
            destination=outbox.opened(store, row, "destination"),
            content=json.loads(outbox.opened(store, row, "content")),
        )
        for row in rows
    ]


def last_code(store: Store) -> Secret:
    """Give the code that was sent last."""
    return Secret([message for message in sent(store) if message.content][-1].content["code"])


def wrong_code(store: Store) -> Secret:
    """Give a code that is not the one that was sent last."""
    return Secret(f"{(int(last_code(store).reveal()) + 1) % 1_000_000:06}")


def with_passage(store: Store, **line: object) -> Store:
    """Give the same store with one line more in the transition table (D10)."""
    passage = Passage.model_validate(line)
    rules = store.rules.model_copy(update={"transition": (*store.rules.transition, passage)})
    return replace(store, rules=rules)
