"""The audit trail: what was changed and what was read (D15, D16)."""

from datetime import datetime
from uuid import UUID

from sqlalchemy.orm import Session as Transaction

from shared.models import AuditEntry
from shared.origin import Origin


def note(
    transaction: Transaction, event: str, at: datetime, origin: Origin, account_id: UUID | None
) -> None:
    """Add one row, in the transaction of what it tells of."""
    transaction.add(
        AuditEntry(
            at=at,
            event=event,
            channel=origin.channel,
            account_id=account_id,
            call_id=origin.call_id,
        )
    )
