"""Taking back what was done while the service was half open (D15, R39).

What was changed in a half-open window is compensated, newest first, never deleted; every result is
a row beside the audit, so that a second run, or one after a kill, does only what is left. Then
everybody whose file was read or changed comes out as a list.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Select,
    Subquery,
    and_,
    case,
    exists,
    func,
    not_,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.orm import Session as Transaction

from shared import audit, before, feed, lives, notices, outbox, resets, web_accounts
from shared.audit import Event
from shared.credentials import NOBODY
from shared.errors import SealError
from shared.models import (
    Account,
    AuditEntry,
    Credential,
    CredentialState,
    EndedBy,
    Message,
    Person,
    VerificationCode,
    VoidedEntry,
    WebAccount,
)
from shared.origin import ADMIN, Origin
from shared.progress import Progress, unheard
from shared.rules import Channel
from shared.store import Store

READ = "read-"  # how the events of reads begin

# Events that make a dossier's password or code: one revoked is replaced.
PASSWORDS: tuple[Event, ...] = (
    "password-changed",
    "password-created-on-web",
    "password-imported",
    "password-issued",
)

# What neither changed nor read anything.
HARMLESS: frozenset[Event] = frozenset(
    {
        "access-refused",
        "campaign-cancelled",
        "campaign-paused",
        "campaign-resumed",
        "campaign-started",
        "code-refused",
        "code-request-suppressed",
        "code-sent",
        "code-used",
        "credential-first-used",
        "incident-lifted",
        "incident-raised",
        "keys-rotated",
        "login",
        "login-expired",
        "login-refused",
        "message-cancelled",
        "message-hastened",
        "messages-hastened",
        "password-request-suppressed",
        "provider-drained",
        "provider-restored",
        "provisional-request-suppressed",
        "provisional-sent",
        "pseudonyms-renewed",
        "terms-accepted",
        "voided",
    }
)


class VoidResult(StrEnum):
    """What was done about one change."""

    UNDONE = "undone"
    REVOKED = "revoked"  # its owner chooses a new one, or it is being replaced
    REPLACED = "replaced"  # revoked, and a new one is on its way
    ENDED_BEFORE = "ended-before"  # nothing was left of it
    BY_HAND = "by-hand"  # a person has to look at it


@dataclass(frozen=True)
class Window:
    """From an instant (included) to another (excluded), in one channel or caisse or all of them."""

    start: datetime
    end: datetime
    channel: Channel | None = None
    caisse: str | None = None

    def holds(self) -> ColumnElement[bool]:
        """Give the condition on an audit row joined with its account."""
        conditions = [AuditEntry.at >= self.start, AuditEntry.at < self.end]
        if self.channel is not None:
            conditions.append(AuditEntry.channel == self.channel)
        if self.caisse is not None:
            conditions.append(Account.caisse == self.caisse)
        return and_(*conditions)


@dataclass(frozen=True)
class ByHand:
    """A change that a person has to look at; repr hides whose."""

    caisse: str
    number: str = field(repr=False)
    event: str
    at: datetime


@dataclass(frozen=True)
class Concerned:
    """A person of a dossier that was read or changed in the window; repr hides whose."""

    caisse: str
    number: str = field(repr=False)
    role: str
    read: bool
    changed: bool
    first: datetime
    last: datetime


@dataclass(frozen=True)
class Report:
    """What voiding a window came to: how many to what, whom to tell, what is left for a person."""

    counts: Mapping[VoidResult, int]
    concerned: Sequence[Concerned]
    by_hand: Sequence[ByHand]


def void_and_report(
    store: Store,
    window: Window,
    except_changed_before: datetime | None = None,
    report: Progress = unheard,
    origin: Origin = ADMIN,
) -> Report:
    """Void a window, and say all that there is to do next."""
    counts = void(store, window, report, origin)
    people = list(concerned(store, window, except_changed_before))
    return Report(counts, people, by_hand(store, window))


def void(
    store: Store, window: Window, report: Progress = unheard, origin: Origin = ADMIN
) -> Mapping[VoidResult, int]:
    """Compensate every change of the window that is not yet; give how many came to what.

    Run again, it does nothing twice and gives the same numbers.
    """
    _end_codes(store, window)
    left = _left(store, window)
    for done, audit_id in enumerate(left):
        report(done, len(left))
        _void_one(store, audit_id, origin)
    for account in _to_replace(store, window):
        _replace(store, window, account, origin)
    report(len(left), len(left))
    with store.database.read(patient=True) as transaction:
        counts = transaction.execute(
            _entries(window, VoidedEntry.result, func.count())
            .join(VoidedEntry, VoidedEntry.audit_id == AuditEntry.id)
            .group_by(VoidedEntry.result)
        )
        return {VoidResult(result): count for result, count in counts}


def by_hand(store: Store, window: Window) -> list[ByHand]:
    """Give what could not be undone, the oldest first."""
    with store.database.read(patient=True) as transaction:
        rows = transaction.execute(
            _entries(window, Account.caisse, Account.number, AuditEntry.event, AuditEntry.at)
            .join(VoidedEntry, VoidedEntry.audit_id == AuditEntry.id)
            .where(VoidedEntry.result == VoidResult.BY_HAND)
            .order_by(AuditEntry.at, AuditEntry.id)
        )
        return [ByHand(caisse or "", number or "", event, at) for caisse, number, event, at in rows]


def concerned(
    store: Store, window: Window, except_changed_before: datetime | None = None
) -> Iterator[Concerned]:
    """Give the persons of every dossier read or changed in the window.

    Without those whose web password was chosen before `except_changed_before`: nobody else could
    get in as them (R39).
    """
    touched = _touched(window)
    people = (
        select(Account.caisse, Account.number, Person.role, touched)
        .join(touched, touched.c.id == Account.id)
        .join(Person, Person.account_id == Account.id)
        .order_by(Account.caisse, Account.number, Person.role, Person.id)
    )
    if except_changed_before is not None:
        people = people.where(not_(_had_chosen(except_changed_before)))
    with store.database.read(patient=True) as transaction:
        for row in transaction.execute(people):
            yield Concerned(
                caisse=row.caisse,
                number=row.number,
                role=row.role,
                read=bool(row.read),
                changed=bool(row.changed),
                first=row.first,
                last=row.last,
            )


def _entries(window: Window, *columns: Any) -> Select[Any]:
    """Select from the window's audit rows, each with its account if it has one."""
    return (
        select(*columns)
        .select_from(AuditEntry)
        .outerjoin(Account, Account.id == AuditEntry.account_id)
        .where(window.holds())
    )


def _touched(window: Window) -> Subquery:
    """Select the dossiers that were read or changed in the window, and when."""
    read, changed = _reads(), _changes()
    return (
        _entries(
            window,
            Account.id,
            func.max(case((read, 1), else_=0)).label("read"),
            func.max(case((changed, 1), else_=0)).label("changed"),
            func.min(AuditEntry.at).label("first"),
            func.max(AuditEntry.at).label("last"),
        )
        .where(or_(read, changed))
        .group_by(Account.id)
        .subquery()
    )


def _reads() -> ColumnElement[bool]:
    """Mean the audit rows of reads."""
    return AuditEntry.event.startswith(READ, autoescape=True)


def _changes() -> ColumnElement[bool]:
    """Mean the audit rows of changes, those that nobody has named included."""
    return not_(or_(_reads(), AuditEntry.event.in_(HARMLESS)))


def _had_chosen(instant: datetime) -> ColumnElement[bool]:
    """Mean persons who had a web password of their own by then (R39)."""
    return exists().where(
        WebAccount.id == Credential.web_account_id,
        or_(WebAccount.nir_index == Person.nir_index, WebAccount.person_id == Person.id),
        Credential.created_at < instant,
    )


def _left(store: Store, window: Window) -> Sequence[int]:
    """Give the changes that nothing was done about yet, the newest first."""
    with store.database.read(patient=True) as transaction:
        return transaction.scalars(
            _entries(window, AuditEntry.id)
            .outerjoin(VoidedEntry, VoidedEntry.audit_id == AuditEntry.id)
            .where(_changes(), VoidedEntry.audit_id.is_(None))
            .order_by(AuditEntry.at.desc(), AuditEntry.id.desc())
        ).all()


def _void_one(store: Store, audit_id: int, origin: Origin) -> None:
    """Compensate one change and keep the result, in one transaction."""
    now = store.clock()
    with store.database.write() as transaction:
        store.database.lock(transaction, store.keys.index("lock", "void"))
        if transaction.get(VoidedEntry, audit_id) is not None:
            return  # by another run at the same time
        entry = transaction.get_one(AuditEntry, audit_id)
        undo = UNDO.get(entry.event, _leave_to_a_person)
        result = undo(store, transaction, entry)
        transaction.add(VoidedEntry(audit_id=audit_id, result=result, at=now))
        audit.note(
            transaction,
            "voided",
            now,
            origin,
            entry.account_id,
            person_id=entry.person_id,
            subject_id=entry.subject_id,
            actor=audit.named(f"audit:{audit_id}", origin),
        )


def _put_back(store: Store, transaction: Transaction, entry: AuditEntry) -> VoidResult:
    """Give a person what was there before, unless it was changed again since.

    Not in a closed dossier: one that was erased stays so, one that moved took the change with it.
    """
    account = _locked_account(transaction, entry)
    person = transaction.get(Person, entry.subject_id or NOBODY, with_for_update=True)
    if account is None or account.closed_at is not None:
        return VoidResult.BY_HAND
    if person is None or _changed_since(transaction, entry):
        return VoidResult.BY_HAND
    try:
        before.put_back(store, entry, person)
    except SealError:
        return VoidResult.BY_HAND
    return VoidResult.UNDONE


def _locked_account(transaction: Transaction, entry: AuditEntry) -> Account | None:
    """Give a change's dossier, and hold off whoever else changes its credentials."""
    return transaction.get(Account, entry.account_id or NOBODY, with_for_update={"key_share": True})


def _changed_since(transaction: Transaction, entry: AuditEntry) -> bool:
    """Say whether a later change of the same things stands."""
    family = [event for event, of in before.COLUMNS.items() if of == before.COLUMNS[entry.event]]
    undone = exists().where(
        VoidedEntry.audit_id == AuditEntry.id, VoidedEntry.result == VoidResult.UNDONE
    )
    later = or_(AuditEntry.at > entry.at, and_(AuditEntry.at == entry.at, AuditEntry.id > entry.id))
    return (
        transaction.scalar(
            select(AuditEntry.id)
            .where(
                AuditEntry.account_id == entry.account_id,
                AuditEntry.subject_id == entry.subject_id,
                AuditEntry.event.in_(family),
                later,
                not_(undone),
            )
            .limit(1)
        )
        is not None
    )


def _revoke(store: Store, transaction: Transaction, entry: AuditEntry) -> VoidResult:
    """End a credential, its message and the dossier's sessions; what it replaced stays ended.

    A person's own password opened the person's other dossiers, too (D11).
    """
    now = store.clock()
    account = _locked_account(transaction, entry)
    credential = transaction.get(Credential, entry.subject_id or NOBODY, with_for_update=True)
    if account is None or credential is None:
        return VoidResult.BY_HAND
    if credential.state == CredentialState.ENDED:
        return VoidResult.ENDED_BEFORE
    credential.state, credential.ended_at = CredentialState.ENDED, now
    credential.ended_by = EndedBy.INCIDENT
    account.epoch += 1
    if credential.web_account_id is not None and entry.person_id is not None:
        person = transaction.get_one(Person, entry.person_id)
        web_accounts.end_sessions(transaction, person, now)
    outbox.Replacement(
        Message.account_id == account.id,
        Message.template.in_([*resets.Template]),
        Message.created_at == credential.created_at,
    ).run(transaction.connection(), now)
    feed.tell(store, transaction, account.id)
    return VoidResult.REVOKED


def _withdraw(store: Store, transaction: Transaction, entry: AuditEntry) -> VoidResult:
    """End an account made under a provisional identifier: its owner asks for another (R20).

    Not one that was there before, nor one whose owner has a password that stands.
    """
    account = transaction.get(WebAccount, entry.subject_id or NOBODY, with_for_update=True)
    if account is None or account.created_at < entry.at:
        return VoidResult.BY_HAND
    if account.ended_at is not None:
        return VoidResult.ENDED_BEFORE
    in_use = select(Credential.id).where(
        Credential.web_account_id == account.id, Credential.state != CredentialState.ENDED
    )
    if transaction.scalars(in_use).first() is not None:
        return VoidResult.BY_HAND
    account.ended_at = store.clock()
    outbox.Replacement(
        Message.account_id == entry.account_id,
        Message.template == notices.Template.PROVISIONAL,
        Message.created_at == entry.at,
    ).run(transaction.connection(), store.clock())
    return VoidResult.UNDONE


def _leave_to_a_person(_store: Store, _transaction: Transaction, _entry: AuditEntry) -> VoidResult:
    return VoidResult.BY_HAND


# What is done about each change. One of a newer version, that is named nowhere, is a person's too.
UNDO: Mapping[str, Callable[[Store, Transaction, AuditEntry], VoidResult]] = {
    "contacts-changed": _put_back,
    "delegation-given": _put_back,
    "delegation-withdrawn": _put_back,
    **dict.fromkeys(PASSWORDS, _revoke),
    "provisional-issued": _withdraw,
    "web-account-created": _revoke,
    "web-password-changed": _revoke,
    # The secret that ended does not come back, and whether there is to be another nobody here
    # knows: its owner may have been robbed of the telephone on file.
    "password-ended-on-web": _leave_to_a_person,
    "password-revoked": _leave_to_a_person,
    "separation": _leave_to_a_person,  # the password sent for it is an event of its own
    # What left this dossier, or the service, is known elsewhere by now.
    "account-moved": _leave_to_a_person,
    "account-opened-by-move": _leave_to_a_person,
    "api-key-added": _leave_to_a_person,  # a client that lost its key would stand still
    "api-key-revoked": _leave_to_a_person,
    # Contacts are put back by rows of their own; who and what is new only the file's sender knows.
    "claimants-imported": _leave_to_a_person,
    "dossier-erased": _leave_to_a_person,
    "dossiers-imported": _leave_to_a_person,  # the next drop takes its place
}


def _end_codes(store: Store, window: Window) -> None:
    """End the verification codes made in the window, in whatever channel: people ask again."""
    people = select(Person.id).join(Account, Account.id == Person.account_id)
    in_caisse = VerificationCode.person_id.in_(people.where(Account.caisse == window.caisse))
    with store.database.write() as transaction:
        transaction.execute(
            update(VerificationCode)
            .where(
                VerificationCode.created_at >= window.start,
                VerificationCode.created_at < window.end,
                VerificationCode.used_at.is_(None),
                true() if window.caisse is None else in_caisse,
            )
            .values(used_at=store.clock())
        )


def _to_replace(store: Store, window: Window) -> Sequence[Account]:
    """Give the dossiers whose password was revoked and not replaced yet."""
    with store.database.read(patient=True) as transaction:
        return transaction.scalars(
            select(Account)
            .where(Account.id.in_(_revoked(window, AuditEntry.account_id)))
            .order_by(Account.id)
        ).all()


def _replace(store: Store, window: Window, account: Account, origin: Origin) -> None:
    """Send a new password, unless another run did; then keep that it was replaced.

    Not after the telephone's cut-over: nothing would be opened by it (D10).
    """
    if not store.rules.may_log_in(*lives.PHONE_LOGIN, store.clock()):
        return
    revoked = _revoked(window, AuditEntry.id).where(AuditEntry.account_id == account.id)
    with store.database.read(patient=True) as transaction:
        since = transaction.scalar(
            select(func.min(VoidedEntry.at)).where(VoidedEntry.audit_id.in_(revoked))
        )
    if since is None:
        return  # kept by another run at the same time
    resets.replace_after_incident(store, account.caisse, account.number, since, origin)
    with store.database.write() as transaction:
        transaction.execute(
            update(VoidedEntry)
            .where(VoidedEntry.audit_id.in_(revoked))
            .values(result=VoidResult.REPLACED)
        )


def _revoked(window: Window, column: Any) -> Select[Any]:
    return (
        _entries(window, column)
        .join(VoidedEntry, VoidedEntry.audit_id == AuditEntry.id)
        .where(VoidedEntry.result == VoidResult.REVOKED, AuditEntry.event.in_(PASSWORDS))
    )
