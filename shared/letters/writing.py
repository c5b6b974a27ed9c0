"""What a letter says and where it goes, written down once: every try prints the same."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from uuid import UUID

import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session as Transaction

from shared import outbox
from shared.clock import DAY
from shared.contacts import trusted_address
from shared.errors import SealError
from shared.letters.pages import Letter
from shared.letters.texts import Texts
from shared.models import Account, Message, MessageState, Person, Role
from shared.people import Address, PersonData, open_person
from shared.rules import PARIS
from shared.store import Store

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Words:
    """What letters are written with: their texts, and the names of the caisses by code."""

    texts: Texts
    caisses: Mapping[str, str]


def write(store: Store, transaction: Transaction, message: Message, words: Words) -> str | None:
    """Give what a letter says and where it goes, as JSON; None if it can't leave today.

    Without an address that may be trusted it is tried again a day later, until it expires (D04).
    """
    now = store.clock()
    try:
        person = _recipient(store, transaction, message)
        variables = json.loads(outbox.opened(store, message, "content"))
    except SealError as error:
        log.error("letter_refused", message=str(message.id), why=str(error))
        outbox.end(transaction, now, MessageState.REFUSED, Message.id == message.id)
        return None
    address = trusted_address(store, person)
    if address is None:
        message.next_at = now + DAY
        return None
    account = transaction.get_one(Account, message.account_id)
    text = words.texts.letters[message.template]
    caisse = words.caisses.get(account.caisse, account.caisse)
    former = f"\n\n{words.texts.former_address}" if address != person.address else ""
    letter = Letter(
        sender=["Caisse d'allocations familiales", caisse],
        recipient=[*_address_lines(person, address)],
        date=f"Le {now.astimezone(PARIS):%d/%m/%Y}",
        subject=text.subject,
        text=text.fill(variables) + former,
    )
    return json.dumps(asdict(letter))


def _recipient(store: Store, transaction: Transaction, message: Message) -> PersonData:
    """Give the person that a letter names, else the dossier's allocataire; empty if nobody is."""
    person_id = outbox.opened(store, message, "destination")
    person = transaction.scalar(
        select(Person).where(
            Person.id == UUID(person_id)
            if person_id
            else (Person.account_id == message.account_id) & (Person.role == Role.ALLOCATAIRE)
        )
    )
    return open_person(store.keys, person) if person else PersonData()


def _address_lines(person: PersonData, address: Address) -> Iterator[str]:
    """Give the lines of an address: the person, the street, the post code with the city."""
    lines = [
        f"{person.given_names or ''} {(person.surname or '').upper()}",
        address.line1,
        address.line2 or "",
        f"{address.postcode} {address.city.upper()}",
    ]
    return (" ".join(line.split()) for line in lines if line.strip())
