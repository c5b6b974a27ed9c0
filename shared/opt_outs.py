"""Who wants no campaign (R24): by mobile or mail address, whoever it belongs to.

It ends campaigns alone: codes, passwords and notices still go out. A contact stands here by its
blind index alone, which no rotation changes, and stays when its person is erased (`OptOut`).
"""

from collections.abc import Collection
from enum import StrEnum

from sqlalchemy import delete, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session as Transaction

from shared import outbox
from shared.contacts import Contact
from shared.models import UNDER_WAY, Message, OptOut, Priority
from shared.store import Store


class Source(StrEnum):
    """How it was told that a contact wants no campaign."""

    SMS = "sms"
    API = "api"
    COMMAND = "command"


def hold(store: Store, transaction: Transaction) -> None:
    """Let nobody opt out until this transaction ends: what feeds campaigns does so before it asks.

    A STOP that comes meanwhile then finds what was fed, and takes it back.
    """
    store.database.lock(transaction, store.keys.index("lock", "opt-outs"))


def opted_out(transaction: Transaction, indexes: Collection[bytes]) -> set[bytes]:
    """Give those of the contacts, by blind index, that want no campaign."""
    found = select(OptOut.contact_index).where(OptOut.contact_index.in_(indexes))
    return set(transaction.scalars(found))


def add(store: Store, transaction: Transaction, contact: Contact, source: Source) -> bool:
    """Send no campaign to a contact any more, nor what waits; False if it was so already."""
    hold(store, transaction)
    index, now = contact.index(store.keys), store.clock()
    insert = sqlite.insert if store.database.sqlite else postgresql.insert
    added = transaction.scalar(
        insert(OptOut)
        .values(contact_index=index, at=now, source=source)
        .on_conflict_do_nothing()
        .returning(OptOut.contact_index)
    )
    waiting = select(Message).where(
        Message.destination_index == index,
        Message.priority == Priority.CAMPAIGN,
        Message.state.in_(UNDER_WAY),
    )
    for message in transaction.scalars(waiting.with_for_update()):
        outbox.cancel(message, now)
    return added is not None


def remove(store: Store, transaction: Transaction, contact: Contact) -> bool:
    """Let campaigns write to a contact again; False if they could already."""
    index = contact.index(store.keys)
    gone = delete(OptOut).where(OptOut.contact_index == index).returning(OptOut.contact_index)
    return transaction.scalar(gone) is not None


def find(store: Store, transaction: Transaction, contact: Contact) -> OptOut | None:
    """Say since when and why a contact wants no campaign; None if it may get them."""
    return transaction.get(OptOut, contact.index(store.keys))
