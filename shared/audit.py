"""The audit trail: what was changed and what was read (D15, D16)."""

from datetime import datetime
from typing import Literal, cast
from uuid import UUID

from sqlalchemy import Connection, Table, insert
from sqlalchemy.orm import Session as Transaction

from shared.models import AuditEntry
from shared.origin import Origin

# All that can happen; voiding.py says of each what an incident's window does about it (D15).
Event = Literal[
    "access-refused",
    "account-moved",
    "account-opened-by-move",
    "api-key-added",
    "api-key-revoked",
    "campaign-cancelled",
    "campaign-paused",
    "campaign-resumed",
    "campaign-started",
    "claimants-imported",
    "code-refused",
    "code-request-suppressed",
    "code-sent",
    "code-used",
    "contacts-changed",
    "credential-first-used",
    "delegation-given",
    "delegation-withdrawn",
    "dossier-erased",
    "dossiers-imported",
    "incident-lifted",
    "incident-raised",
    "keys-rotated",
    "login",
    "login-expired",
    "login-refused",
    "message-cancelled",
    "message-hastened",
    "messages-hastened",
    "password-changed",
    "password-created-on-web",
    "password-ended-on-web",
    "password-imported",
    "password-issued",
    "password-request-suppressed",
    "password-revoked",
    "provider-drained",
    "provider-restored",
    "provisional-issued",
    "provisional-request-suppressed",
    "provisional-sent",
    "pseudonyms-renewed",
    "read-alerts",
    "read-appointments",
    "read-certificates",
    "read-claims",
    "read-debts",
    "read-disclosure",
    "read-export",
    "read-letters",
    "read-payments",
    "read-quotient",
    "read-requests",
    "read-rights",
    "separation",
    "terms-accepted",
    "voided",
    "web-account-created",
    "web-password-changed",
]


def named(what: str, origin: Origin) -> str:
    """Name, as an actor, what somebody acted on, after the client of the HTTP API that did."""
    return f"{origin.client}:{what}" if origin.client else what


# Of the table, not of the class: so the statement is the same whatever is None (D07).
_NOTE = insert(cast(Table, AuditEntry.__table__)).inline()  # nobody asks for its id


def note(  # noqa: PLR0913 - a row has so many columns
    transaction: Transaction | Connection,
    event: Event,
    at: datetime,
    origin: Origin,
    account_id: UUID | None,
    *,
    person_id: UUID | None = None,
    subject_id: UUID | None = None,
    actor: str | None = None,
    before_sealed: bytes | None = None,
) -> None:
    """Add one row, in the transaction of what it tells of.

    A change says which row it changed (`subject_id`: a credential, a person, a message) and what
    was there before, so that it can be compensated (`before.py`). The actor is the API's client by
    default.
    """
    transaction.execute(
        _NOTE,
        {
            "at": at,
            "event": event,
            "channel": origin.channel,
            "account_id": account_id,
            "call_id": origin.call_id,
            "person_id": person_id,
            "subject_id": subject_id,
            "actor": actor or origin.client,
            "before_sealed": before_sealed,
        },
    )
