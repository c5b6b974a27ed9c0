"""Messages to one contact of a person: codes (R15), and that an account was made (R23).

Their texts are the gateway's; here is what they are filled with.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from uuid import UUID, uuid4

from sqlalchemy.orm import Session as Transaction

from shared import outbox
from shared.contacts import Contact
from shared.database import insert_if
from shared.models import Message, MessageState, Priority
from shared.store import Store


class Template(StrEnum):
    """Which text a message has."""

    CODE = "code"
    CODE_OLD_MOBILE = "code-old-mobile"  # the number on file changed lately (D04)
    ACCOUNT_CREATED = "web-account-created"  # R23
    PROVISIONAL = "provisional-identifier"  # R22
    IDENTIFIER_LETTER = "letter-identifier"  # R25: the numéro d'allocataire, by post alone


PRIORITY: Mapping[str, Priority] = {  # any other is a NOTICE
    Template.CODE: Priority.CODE,
    Template.CODE_OLD_MOBILE: Priority.CODE,
    Template.PROVISIONAL: Priority.PASSWORD,  # somebody waits for it, to log in
}


@dataclass(frozen=True)
class Notice:
    """What is to be said, to whom, until when; repr hides the contact and the content."""

    template: str
    account_id: UUID | None
    contact: Contact
    content: Mapping[str, str] = field(repr=False)
    expires_at: datetime


def queue(store: Store, transaction: Transaction, notice: Notice, *, wanted: bool = True) -> None:
    """Put a notice into the outbox; if it is not wanted, the same statement inserts none (D04)."""
    now, message_id, contact = store.clock(), uuid4(), notice.contact
    message = Message(
        id=message_id,
        route=contact.route,
        template=notice.template,
        priority=PRIORITY.get(notice.template, Priority.NOTICE),
        account_id=notice.account_id,
        known_caller=False,
        destination_sealed=outbox.seal(store, message_id, "destination", contact.value),
        destination_index=contact.index(store.keys),
        content_sealed=outbox.seal(store, message_id, "content", json.dumps(dict(notice.content))),
        state=MessageState.QUEUED,
        created_at=now,
        expires_at=notice.expires_at,
        next_at=now,
        claims=0,
        failures=0,
        repeated=False,
    )
    insert_if(transaction, message, wanted=wanted)
    outbox.announce(store, transaction.connection())
