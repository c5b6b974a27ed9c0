"""What the web stack did to a dossier's password on its side, done here too (R04).

So neither side accepts what the other has ended; `feed` is the other direction. Told twice, a
change is done once: a password created there is known by the change's id, and what ended there
ends here up to the instant that the change names.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from sqlalchemy.orm import Session as Transaction

from shared import audit, credentials, feed, life_cycle, throttles
from shared.errors import StoreError
from shared.hashing import Foreign
from shared.life_cycle import SECRETS, Ending, Key, TakenOver
from shared.models import Account, CredentialOrigin, EndedBy
from shared.origin import Origin
from shared.rules import Channel, CredentialKind
from shared.store import Store

SKEW = timedelta(minutes=1)  # how far the clock of the web stack may be ahead


class ChangeResult(StrEnum):
    """What came of a change."""

    DONE = "done"
    UNCHANGED = "unchanged"  # told before, or something of ours is newer
    UNKNOWN_ACCOUNT = "unknown-account"


class FutureChangeError(StoreError):
    """A change can't have happened yet."""


@dataclass(frozen=True)
class WebChange:
    """The passwords that a dossier had then were ended, for a new one if there is a hash."""

    id: UUID  # the web stack's own
    key: Key
    at: datetime
    foreign: Foreign | None = field(repr=False)
    provisional: bool = False


def apply(store: Store, change: WebChange, client: str) -> ChangeResult:
    """Do it here: passwords and codes issued until then, and every session, are over at once.

    FutureChangeError.
    """
    if change.at > store.clock() + SKEW:
        raise FutureChangeError("the change is in the future")
    hashed = store.hasher.take_over(change.foreign) if change.foreign is not None else None
    with store.database.write() as transaction:
        account = life_cycle.locked(transaction, change.key)
        if account is None:
            return ChangeResult.UNKNOWN_ACCOUNT
        if hashed is None:
            done = _end(store, transaction, account, change)
        else:
            done = _create(store, transaction, account, change, hashed)
        if not done:
            return ChangeResult.UNCHANGED
        life_cycle.end_sessions(account)
        origin = Origin(Channel.WEB, client=f"{client}:{change.id}")
        audit.note(
            transaction,
            "password-ended-on-web" if hashed is None else "password-created-on-web",
            store.clock(),
            origin,
            account.id,
            subject_id=None if hashed is None else _password_id(store, change),
        )
        feed.tell(store, transaction, account.id)
        return ChangeResult.DONE


def _end(store: Store, transaction: Transaction, account: Account, change: WebChange) -> bool:
    ending = Ending(EndedBy.WEB, store.clock(), SECRETS, until=change.at)
    return life_cycle.end_secrets(transaction, account.id, ending)


def _create(
    store: Store, transaction: Transaction, account: Account, change: WebChange, hashed: str
) -> bool:
    """Take the password over; the code ends with its predecessors (R04)."""
    given = TakenOver(
        id=_password_id(store, change),
        kind=CredentialKind.PASSWORD,
        origin=CredentialOrigin.WEB,
        hashed=hashed,
        created_at=min(change.at, store.clock()),
        provisional=change.provisional,
    )
    if not life_cycle.take_over(store, transaction, account.id, given):
        return False
    codes = Ending(EndedBy.REPLACED, store.clock(), [CredentialKind.CODE])
    life_cycle.end_secrets(transaction, account.id, codes)
    key = credentials.throttle_key(store, account.caisse, account.number)
    throttles.end_row(transaction, key)
    return True


def _password_id(store: Store, change: WebChange) -> UUID:
    """Know a password created there by the change: told twice, it is taken over once."""
    return UUID(bytes=store.keys.index("web-change", str(change.id))[:16])
