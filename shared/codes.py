"""Verification codes: 6 digits on their way to a contact, good for one thing (R15).

Whoever asks, for whomever, the same statements run and one row is left, which says whether the code
was sent (D04); whoever has codes sent to a contact, they are counted together. An entry is a login
attempt of D05: reserved and committed before anything is compared, so that a code stands five wrong
ones however many come at once.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from hmac import compare_digest
from typing import TypeVar
from uuid import UUID, uuid4

import structlog
from sqlalchemy import ColumnElement, func, or_, select, update
from sqlalchemy.orm import Session as Transaction

from shared import audit, incident, notices, throttles
from shared.clock import DAY
from shared.contacts import Contact
from shared.credentials import NOBODY, phone_index
from shared.errors import ClosedError
from shared.models import Person, Route, VerificationCode
from shared.notices import Notice, Template
from shared.origin import Origin
from shared.rules import CodeRules
from shared.secret import Secret
from shared.store import Store
from shared.throttles import Allowed, Attempt

DIGITS = 6
HOUR = timedelta(hours=1)

log = structlog.get_logger(__name__)

T = TypeVar("T")

Grant = Callable[[Transaction, UUID], T]
"""Gives what a right code opens to the person of that id, in the transaction that uses it up.

The id is NOBODY's if the code was for a contact of no dossier.
"""


class Purpose(StrEnum):
    """What a code is good for, and nothing else."""

    CONTACT = "contact"  # to confirm a contact of the dossier (R18)
    RECOVERY = "recovery"  # to choose a new password on the web (R12, R13)
    PHONE_LOGIN = "phone-login"  # to log in with a NIR on the telephone (D10)


@dataclass(frozen=True)
class Recipient:
    """The person that a code is for, if the store knows one, and the contact it goes to."""

    person_id: UUID | None
    account_id: UUID | None
    contact: Contact


@dataclass(frozen=True)
class Wish:
    """What is asked for: `recipient` is None if the person or the contact is not the right one."""

    purpose: str
    route: Route
    asked_by: bytes
    recipient: Recipient | None


@dataclass(frozen=True)
class Entry:
    """A code that somebody entered, and which one it is meant to be."""

    purpose: str
    which: ColumnElement[bool]
    code: Secret


@dataclass(frozen=True)
class _Reserved:
    """An entry that was counted, and the code to compare it with, if it may be."""

    attempt: Attempt
    candidate: VerificationCode | None


def asker(store: Store, identifier: str, origin: Origin) -> bytes:
    """Name whoever asks for a code by an identifier: the caller id, or the call if it is withheld.

    On the telephone only the same may enter it: a stranger who asks too can't use up its tries.
    """
    return store.keys.index("asker", f"{identifier}/{origin.caller_id or origin.call_id}")


def request(store: Store, wish: Wish, origin: Origin) -> UUID:
    """Send a code if there is somebody to send it to; give the id that it is entered with (D04)."""
    now, recipient = store.clock(), wish.recipient
    minutes = _minutes(store.rules.code, wish.route)
    row = VerificationCode(
        id=uuid4(),
        purpose=wish.purpose,
        contact_index=recipient.contact.index(store.keys) if recipient else wish.asked_by,
        asked_by=wish.asked_by,
        created_at=now,
        expires_at=now + timedelta(minutes=minutes),
        used_at=None,
    )
    code = Secret(f"{store.chance(10**DIGITS):0{DIGITS}}")
    row.code_mac = _mac(store, row.id, code)
    notice = Notice(
        template=_template(recipient),
        account_id=recipient.account_id if recipient else None,
        contact=recipient.contact if recipient else Contact(wish.route, ""),
        content={"code": code.reveal(), "minutes": str(minutes)},
        expires_at=row.expires_at,
    )
    with store.database.write() as transaction:
        store.database.lock(transaction, row.contact_index)
        within = _within(store, transaction, row, _asked_by_client(recipient))
        closed = incident.closed_to(transaction, origin.channel, notice.account_id)
        wanted = recipient is not None and within and not closed
        row.sent = wanted
        row.person_id = recipient.person_id if recipient and wanted else None
        transaction.add(row)
        transaction.flush()
        notices.queue(store, transaction, notice, wanted=wanted)
        event: audit.Event = "code-sent" if wanted else "code-request-suppressed"
        audit.note(transaction, event, now, origin, notice.account_id, person_id=row.person_id)
    return row.id


def by_id(code_id: UUID) -> ColumnElement[bool]:
    """Mean the code that `request` gave this id for."""
    return VerificationCode.id == code_id


def newest_of(asked_by: bytes) -> ColumnElement[bool]:
    """Mean the last code that `asker` asked for."""
    return VerificationCode.asked_by == asked_by


def redeem(store: Store, entry: Entry, origin: Origin, grant: Grant[T]) -> T | None:
    """Use a code up and give what it opens; None if it is wrong, used, too old or tried too often.

    If `grant` fails, the code stays unused.
    """
    reserved = _reserve(store, entry, origin)
    candidate = reserved.candidate
    if candidate is None or not compare_digest(
        _mac(store, candidate.id, entry.code), candidate.code_mac
    ):
        _settle_wrong(store, reserved.attempt)
        return None
    try:
        return _settle_right(store, reserved.attempt, candidate, grant)
    except ClosedError:  # by an incident: that is no failure (D15)
        with store.database.begin() as transaction:
            throttles.give_back(transaction, reserved.attempt)
        raise


def _reserve(store: Store, entry: Entry, origin: Origin) -> _Reserved:
    """Count the entry, in a transaction of its own, and fetch the code it may be compared with."""
    with store.database.write() as transaction:
        found = transaction.scalar(
            select(VerificationCode)
            .where(VerificationCode.purpose == entry.purpose, entry.which)
            # One that was not sent, being one too many (R15), takes nothing from the one before.
            .order_by(VerificationCode.sent.desc(), VerificationCode.created_at.desc())
            .limit(1)
        )
        person_id = found.person_id if found else None
        attempt = Attempt.of(
            store,
            store.keys.index("code-entries", str(found.id if found else uuid4())),
            origin,
            known_caller=_on_file(store, transaction, person_id or NOBODY, origin.caller_id),
        )
        allowed = throttles.reserve(store, transaction.connection(), attempt)
    if found is None or allowed is Allowed.NOTHING:
        return _Reserved(attempt, None)
    good = found.sent and found.used_at is None and attempt.at < found.expires_at
    return _Reserved(attempt, found if good else None)


def _settle_wrong(store: Store, attempt: Attempt) -> None:
    """Leave the reservation as a failure; « in a row » means nothing for what lives minutes."""
    with store.database.write() as transaction:
        throttles.end_row(transaction, attempt.account_key)
        audit.note(transaction, "code-refused", store.clock(), attempt.origin, None)


def _settle_right(
    store: Store, attempt: Attempt, compared: VerificationCode, grant: Grant[T]
) -> T | None:
    """Use the code up, unless it was used while it was compared: it is good once."""
    now = store.clock()
    with store.database.write() as transaction:
        used = transaction.execute(
            update(VerificationCode)
            .where(
                VerificationCode.id == compared.id,
                VerificationCode.used_at.is_(None),
                VerificationCode.expires_at > now,
            )
            .values(used_at=now)
            .returning(VerificationCode.person_id)
        ).first()
        if used is None:
            audit.note(transaction, "code-refused", now, attempt.origin, None)
            return None
        person_id = used.person_id or NOBODY
        account_id = transaction.scalar(select(Person.account_id).where(Person.id == person_id))
        audit.note(
            transaction, "code-used", now, attempt.origin, account_id, person_id=used.person_id
        )
        granted = grant(transaction, person_id)
        throttles.clear(transaction.connection(), attempt)
        return granted


def _asked_by_client(recipient: Recipient | None) -> bool:
    """Say whether it is a code of an API client's, to a contact that it names itself."""
    return recipient is not None and recipient.person_id is None


def _within(store: Store, transaction: Transaction, row: VerificationCode, by_client: bool) -> bool:
    """Say whether the contact, and clients in all, were sent no more codes than they may be (R15).

    What clients have sent takes nothing from the store's own codes: whoever knows a telephone
    number alone could keep its owner out (D03).
    """
    rules, sent = store.rules.code, select(func.count()).where(VerificationCode.sent)
    to_contact = sent.where(
        VerificationCode.contact_index == row.contact_index,
        VerificationCode.created_at > row.created_at - DAY,
    )
    if not by_client:
        own = to_contact.where(VerificationCode.person_id.is_not(None))
        return (transaction.scalar(own) or 0) <= rules.resends
    by_clients = sent.where(
        VerificationCode.person_id.is_(None),
        VerificationCode.created_at > row.created_at - HOUR,
    )
    open_to_clients = (transaction.scalar(by_clients) or 0) < rules.clients_hour
    if not open_to_clients:
        log.warning("clients_codes_budget_spent", an_hour=rules.clients_hour)
    return (transaction.scalar(to_contact) or 0) <= rules.resends and open_to_clients


def _on_file(
    store: Store, transaction: Transaction, person_id: UUID, caller_id: str | None
) -> bool:
    """Say whether the caller id is a telephone number of the person."""
    phone = phone_index(store, caller_id)
    return (
        transaction.scalar(
            select(Person.id).where(
                Person.id == person_id,
                or_(Person.mobile_index == phone, Person.landline_index == phone),
            )
        )
        is not None
    )


def _minutes(rules: CodeRules, route: Route) -> int:
    return rules.sms_minutes if route is Route.SMS else rules.mail_minutes


def _template(recipient: Recipient | None) -> Template:
    former = recipient is not None and recipient.contact.former
    return Template.CODE_OLD_MOBILE if former else Template.CODE


def _mac(store: Store, code_id: UUID, code: Secret) -> bytes:
    """Give a code's keyed hash: without the key ring a stolen database gives none away (D13)."""
    return store.keys.index("verification-code", f"{code_id}/{code.reveal()}")
