"""Messages that API clients have sent, from an installation's own templates.

The store's own messages, passwords and codes, can't be had in this way. A client follows and takes
back its own alone.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

from sqlalchemy import Connection, Select, select
from sqlalchemy.dialects import postgresql, sqlite

from shared import outbox
from shared.models import Message, MessageState, Priority, Route
from shared.store import Store


@dataclass(frozen=True)
class Misfit:
    """Why a message can't be sent; quotes nothing of it."""

    where: str  # `template`, `variables`, or one that the template has: `variables.heure`
    reason: str


@dataclass(frozen=True)
class Order:
    """What a client wants sent, to whom, how long it may wait; repr hides recipient and content."""

    template: str
    to: str = field(repr=False)  # +…, one that takes SMS (D08)
    variables: Mapping[str, str] = field(repr=False)
    life: timedelta


def draft(store: Store, client: str, order: Order, message_id: UUID) -> dict[str, object]:
    """Give the row of a message, for `put`."""
    now, content = store.clock(), json.dumps(dict(order.variables))
    return {
        "id": message_id,
        "route": Route.SMS,
        "template": order.template,
        "priority": Priority.NOTICE,
        "client": client,
        "known_caller": False,
        "destination_sealed": outbox.seal(store, message_id, "destination", order.to),
        "content_sealed": outbox.seal(store, message_id, "content", content),
        "state": MessageState.QUEUED,
        "created_at": now,
        "expires_at": now + order.life,
        "next_at": now,
    }


def put(store: Store, transaction: Connection, drafts: Sequence[Mapping[str, object]]) -> None:
    """Put messages into the outbox; one that is there already is not sent again."""
    if drafts:
        transaction.execute(_PUT_SQLITE if store.database.sqlite else _PUT_POSTGRESQL, list(drafts))
        outbox.announce(store, transaction)


def find(store: Store, client: str, message_id: UUID) -> Message | None:
    """Give a message of this client; None if there is none."""
    with store.database.read() as transaction:
        return transaction.scalar(_of_client(client, message_id))


def cancel(store: Store, client: str, message_id: UUID) -> Message | None:
    """Take back a message of this client as far as it can be, and give it as it is now."""
    now = store.clock()
    with store.database.write() as transaction:
        message = transaction.scalar(_of_client(client, message_id).with_for_update())
        if message is not None:
            outbox.cancel(message, now)
        return message


def _of_client(client: str, message_id: UUID) -> Select[Message]:
    return select(Message).where(Message.id == message_id, Message.client == client)


# Built once.
_PUT_SQLITE = sqlite.insert(Message).on_conflict_do_nothing()
_PUT_POSTGRESQL = postgresql.insert(Message).on_conflict_do_nothing()
