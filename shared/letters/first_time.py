"""First-time claimants on paper: identifier and password in two separate letters (R25)."""

from datetime import datetime

from sqlalchemy.orm import Session as Transaction

from shared import notices
from shared.clock import DAY
from shared.contacts import Contact
from shared.credentials import usable
from shared.models import Account, CredentialOrigin, Route
from shared.notices import Notice
from shared.resets import Decide, Terms
from shared.rules import CredentialKind
from shared.store import Store


def terms(decide: Decide) -> Terms:
    """Give the terms of the password letter; `decide` calls `queue_identifier`."""
    return Terms(CredentialOrigin.REGISTRATION, provisional=True, by_post=True, decide=decide)


def has_password(transaction: Transaction, account: Account) -> bool:
    """Say whether the dossier is no first-time claimant's any more: a password opens it."""
    return bool(usable(transaction.connection(), account.id, CredentialKind.PASSWORD))


def queue_identifier(
    store: Store, transaction: Transaction, account: Account, now: datetime
) -> None:
    """Queue the letter with the number; `runs` lets it leave before that with the password."""
    notice = Notice(
        template=notices.Template.IDENTIFIER_LETTER,
        account_id=account.id,
        contact=Contact(Route.LETTER, ""),  # the allocataire; the address is read for the run
        content={"number": account.number},
        expires_at=now + store.rules.reset.letter_days * DAY,
    )
    notices.queue(store, transaction, notice)
