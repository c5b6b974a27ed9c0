"""What ends a dossier's password at once: separation, move to another caisse, revocation (R08).

A « mot de passe oublié » ends nothing before the new password is used; these do (D03), with the
codes, what is still on its way, and every open session of the dossier.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, and_, bindparam, or_, select, update
from sqlalchemy.orm import Session as Transaction
from sqlalchemy.orm import aliased

from shared import audit, feed, lives, outbox, resets
from shared.credentials import seal_hash, throttle_key
from shared.errors import StoreError
from shared.identifiers import CAISSE, is_number
from shared.models import (
    Account,
    Credential,
    CredentialOrigin,
    CredentialState,
    EndedBy,
    Message,
    Person,
    Route,
    WebAccount,
)
from shared.origin import Origin
from shared.people import open_person, seal_person
from shared.resets import Decide, Terms
from shared.rules import CredentialKind
from shared.store import Store

SECRETS = (CredentialKind.PASSWORD, CredentialKind.CODE)
USABLE = (CredentialState.ACTIVE, CredentialState.PENDING)


class UnknownAccountError(StoreError):
    """There is no such dossier, or it is closed."""

    def __init__(self) -> None:
        super().__init__("il n'y a pas de tel dossier ouvert")


class MoveRefusedError(StoreError):
    """A dossier can't move there: why, in French, without quoting it."""


class _DoneBeforeError(Exception):
    """What is asked for was done, and nothing happened since."""


EVER = datetime.max.replace(tzinfo=UTC)  # also what a clock since set back calls later


@dataclass(frozen=True)
class Key:
    """What names a dossier (D01); repr hides whose."""

    caisse: str
    number: str = field(repr=False)


@dataclass(frozen=True)
class TakenOver:
    """A password or code that another system made, with its hash as we keep it."""

    id: UUID
    kind: CredentialKind
    origin: CredentialOrigin
    hashed: str = field(repr=False)
    created_at: datetime | None  # None: nobody knows, so that anything of ours is newer
    provisional: bool


@dataclass(frozen=True)
class Ending:
    """What ends, and why."""

    by: EndedBy
    at: datetime
    kinds: Collection[CredentialKind] = SECRETS
    until: datetime | None = None  # spares what was issued later


def separate(store: Store, key: Key, origin: Origin) -> None:
    """End a separated household's password at once and send a provisional one (R08, R09).

    Told twice, it is done once, until the new password is used or too old. UnknownAccountError.
    """

    def decide(transaction: Transaction, account: Account | None, _: Route) -> bool:
        reason, now = CredentialOrigin.SEPARATION, store.clock()
        if account is not None and _under_way(transaction, account, reason, now):
            raise _DoneBeforeError
        return _end_at_once(store, transaction, account, EndedBy.SEPARATION, origin)

    _replace(store, key, origin, CredentialOrigin.SEPARATION, decide)


def revoke(store: Store, key: Key, origin: Origin, *, reissue: bool) -> None:
    """End a dossier's password at once; send a provisional one if asked. UnknownAccountError."""

    def decide(transaction: Transaction, account: Account | None, _: Route) -> bool:
        return _end_at_once(store, transaction, account, EndedBy.REVOKED, origin)

    if reissue:
        _replace(store, key, origin, CredentialOrigin.AGENT, decide)
        return
    with store.database.write() as transaction:
        account = locked(transaction, key)
        _end_at_once(store, transaction, account, EndedBy.REVOKED, origin)
        feed.tell(store, transaction, *([account.id] if account else []))


def move(store: Store, old: Key, new: Key, origin: Origin) -> None:
    """Move a household to another caisse: a new dossier, a new password (R08, R09).

    The old dossier is closed for good and kept for its history; accounts of persons on the web
    follow. Told twice, it is done once. UnknownAccountError, MoveRefusedError.
    """
    if not (CAISSE.fullmatch(new.caisse) and is_number(new.number)):
        raise MoveRefusedError("nouveau dossier : une caisse et 7 chiffres attendus")
    with store.database.write() as transaction:
        keys = [throttle_key(store, key.caisse, key.number) for key in (old, new)]
        store.database.lock(transaction, *sorted(keys))
        if not _moved_before(transaction, old, new):
            _move(store, transaction, old, new, origin)

    def decide(transaction: Transaction, account: Account | None, _: Route) -> bool:
        return account is not None and not _had_credentials(transaction, account) and _open(store)

    _replace(store, new, origin, CredentialOrigin.MUTATION, decide)


def end_secrets(transaction: Transaction, account_id: UUID, ending: Ending) -> bool:
    """End what opens a dossier, and the messages that bring it; say whether there was anything.

    The caller has locked the account, and tells the feed.
    """
    transaction.flush()
    until = ending.until or EVER
    ended = transaction.scalars(
        update(Credential)
        .where(
            Credential.account_id == account_id,
            Credential.kind.in_(ending.kinds),
            Credential.state.in_(USABLE),
            Credential.created_at <= until,
        )
        .values(state=CredentialState.ENDED, ended_at=ending.at, ended_by=ending.by)
        .returning(Credential.id),
        execution_options={"synchronize_session": False},
    ).all()
    if CredentialKind.PASSWORD in ending.kinds:
        values = {"account": account_id, "until": until}
        _BRINGING_PASSWORDS.run(transaction.connection(), ending.at, values)
    return bool(ended)


def take_over(store: Store, transaction: Transaction, account_id: UUID, given: TakenOver) -> bool:
    """Make a credential of another system the one in force; False if ours is newer, or it is known.

    The account is locked. What was ended here since is never brought back, nor a code once the
    password was used (D09). The caller tells the feed.
    """
    if _outdated_by_ours(transaction, account_id, given):
        return False
    now = store.clock()
    created_at = given.created_at or now
    end_secrets(transaction, account_id, Ending(EndedBy.REPLACED, now, kinds=[given.kind]))
    term = lives.term(store.rules, given.origin, created_at, provisional=given.provisional)
    credential = Credential(
        id=given.id,
        account_id=account_id,
        kind=given.kind,
        state=CredentialState.ACTIVE,
        origin=given.origin,
        provisional=term.provisional,
        created_at=created_at,
        expires_at=term.expires_at if given.kind is CredentialKind.PASSWORD else None,
    )
    credential.hash_sealed = seal_hash(store, credential, given.hashed)
    transaction.add(credential)
    return True


def locked(transaction: Transaction, key: Key) -> Account | None:
    """Find an open dossier and hold off whoever else changes its credentials."""
    return transaction.scalars(
        select(Account)
        .where(*_named(key), Account.closed_at.is_(None))
        .with_for_update(key_share=True)
    ).one_or_none()


def end_sessions(account: Account) -> None:
    """End every open session of a dossier, whoever has it."""
    account.epoch += 1


def _replace(
    store: Store, key: Key, origin: Origin, reason: CredentialOrigin, decide: Decide
) -> None:
    """Send a provisional password (R09); `decide` ends what was there in the same transaction."""
    try:
        resets.issue(
            store, key.caisse, key.number, origin, Terms(reason, provisional=True, decide=decide)
        )
    except _DoneBeforeError:
        return


def _end_at_once(
    store: Store,
    transaction: Transaction,
    account: Account | None,
    why: EndedBy,
    origin: Origin,
) -> bool:
    """End passwords, codes and sessions; say whether a new password would open anything (D10)."""
    if account is None:
        raise UnknownAccountError
    now = store.clock()
    end_secrets(transaction, account.id, Ending(why, now))
    end_sessions(account)
    audit.note(transaction, _EVENTS[why], now, origin, account.id)
    return _open(store)


def _open(store: Store) -> bool:
    return store.rules.may_log_in(*lives.PHONE_LOGIN, store.clock())


def _under_way(
    transaction: Transaction, account: Account, origin: CredentialOrigin, now: datetime
) -> bool:
    """Say whether the only password of a dossier is one of that origin, on its way to its owner.

    Not one that nobody used in its life: then the dossier has none, and needs another.
    """
    usable = transaction.execute(
        select(Credential.state, Credential.origin, Credential.expires_at > now).where(
            Credential.account_id == account.id, Credential.state.in_(USABLE)
        )
    ).all()
    return [tuple(row) for row in usable] == [(CredentialState.PENDING, origin, True)]


def _named(key: Key) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return Account.caisse == key.caisse, Account.number == key.number


def _moved_before(transaction: Transaction, old: Key, new: Key) -> bool:
    """Say whether this very move was made."""
    target = aliased(Account)
    made = (
        select(target.id)
        .join(Account, Account.moved_to == target.id)
        .where(*_named(old), target.caisse == new.caisse, target.number == new.number)
    )
    return transaction.scalars(made).first() is not None


def _move(store: Store, transaction: Transaction, old: Key, new: Key, origin: Origin) -> None:
    source = locked(transaction, old)
    if source is None:
        raise UnknownAccountError
    if transaction.scalars(select(Account.id).where(*_named(new))).first() is not None:
        raise MoveRefusedError("le nouveau dossier existe déjà")
    now = store.clock()
    target = Account(
        id=uuid4(),
        caisse=new.caisse,
        number=new.number,
        situation=source.situation,
        created_at=now,
    )
    transaction.add(target)
    transaction.flush()
    _copy_persons(store, transaction, source, target)
    source.closed_at, source.moved_to = now, target.id
    end_secrets(transaction, source.id, Ending(EndedBy.MUTATION, now))
    end_sessions(source)
    audit.note(transaction, "account-moved", now, origin, source.id, subject_id=target.id)
    audit.note(transaction, "account-opened-by-move", now, origin, target.id)
    feed.tell(store, transaction, source.id)


def _copy_persons(store: Store, transaction: Transaction, source: Account, target: Account) -> None:
    """Copy a household: what is sealed opens in its own row only, so it is sealed anew (D13)."""
    for person in transaction.scalars(select(Person).where(Person.account_id == source.id)).all():
        copy_id = uuid4()
        columns = seal_person(store.keys, copy_id, open_person(store.keys, person))
        copy = Person(
            id=copy_id,
            account_id=target.id,
            role=person.role,
            delegated_at=person.delegated_at,
            **columns,
        )
        transaction.add(copy)
        transaction.flush()
        transaction.execute(  # an account without NIR hangs on the person's row (R20)
            update(WebAccount).where(WebAccount.person_id == person.id).values(person_id=copy_id)
        )


def _had_credentials(transaction: Transaction, account: Account) -> bool:
    found = select(Credential.id).where(Credential.account_id == account.id).limit(1)
    return transaction.scalars(found).first() is not None


def _outdated_by_ours(transaction: Transaction, account_id: UUID, given: TakenOver) -> bool:
    """Say whether something that happened here is newer than what another system made."""
    of_kind = Credential.kind == given.kind
    newer = [Credential.id == given.id]
    if given.created_at is None:
        newer.append(of_kind)
    else:
        newer.append(and_(of_kind, Credential.created_at >= given.created_at))
        ended = Credential.ended_at >= given.created_at
        newer.append(and_(of_kind, ended, Credential.ended_by != EndedBy.REPLACED))
    if given.kind is CredentialKind.CODE:
        of_password = Credential.kind == CredentialKind.PASSWORD
        newer.append(and_(of_password, Credential.first_used_at.is_not(None)))
    which = select(Credential.id).where(Credential.account_id == account_id, or_(*newer))
    return transaction.scalars(which.limit(1)).first() is not None


_EVENTS: dict[EndedBy, audit.Event] = {
    EndedBy.SEPARATION: "separation",
    EndedBy.REVOKED: "password-revoked",
}
_BRINGING_PASSWORDS = outbox.Replacement(
    Message.account_id == bindparam("account"),
    Message.template.in_([*resets.Template]),
    Message.created_at <= bindparam("until"),
)
