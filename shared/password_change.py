"""A password changed by its owner, in an open session: on the web, in the app, at a kiosk (R07).

The dossier's own (`change`, R09): nobody chooses one on the telephone (R03), nor where it does not
log in any more (D10): the 8 digits that the telephone keeps from 9 October 2021 are replaced by
« mot de passe oublié » alone (D02). A person's on the web (`change_own`, R14): the one in force is
asked for, so that whoever finds a session open does not make it theirs.
"""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid4

from sqlalchemy import select, update
from sqlalchemy.orm import Session as Transaction

from shared import (
    audit,
    credentials,
    feed,
    life_cycle,
    lives,
    passwords,
    rights,
    sessions,
    throttles,
    web_accounts,
    web_passwords,
)
from shared.credentials import Candidate, Match, Refusal
from shared.errors import NotAllowedError
from shared.life_cycle import Ending
from shared.models import (
    Account,
    Credential,
    CredentialOrigin,
    CredentialState,
    EndedBy,
    LoginSession,
    Person,
)
from shared.origin import Origin
from shared.passwords import Fault, KnownOf
from shared.people import open_person
from shared.resets import known_of
from shared.rights import Holder, Right
from shared.rules import Channel, CredentialKind, Identifier
from shared.secret import Secret
from shared.sessions import Session
from shared.store import Store


@dataclass(frozen=True)
class OwnChange:
    """What a person gives to change the password on the web."""

    current: Secret
    chosen: Secret


@dataclass(frozen=True)
class _Dossier:
    """What a new password is held against."""

    known: KnownOf
    usable: list[Candidate]


def change(store: Store, session: Session, password: Secret) -> Fault | None:
    """Make it the dossier's password at once, for two years (R07); or say why it can't be.

    Every other password ends, the code too (R04), and every other session of the dossier. This one
    goes on; if it was for the change only (R05, R09), it opens what others do from now on.
    SessionEndedError; NotAllowedError for a person's session (D11), and where the table of D10
    does not let the dossier's password in.
    """
    dossier = _read(store, session)
    fault = passwords.fault(dossier.known, password)
    if fault is None and credentials.compare(store, dossier.usable, password):
        fault = Fault.UNCHANGED
    if fault is not None:
        return fault
    hashed = store.hasher.hash(password)
    with store.database.write() as transaction:
        # Locked first, so that of two changes at once the second finds its session ended.
        transaction.get(Account, session.account_id, with_for_update={"key_share": True})
        account = _account(store, transaction, session)
        ending = Ending(EndedBy.REPLACED, store.clock())
        life_cycle.end_secrets(transaction, account.id, ending)
        _add(store, transaction, account, hashed, session)
        _end_other_sessions(transaction, account.id, session, store.clock())
        feed.tell(store, transaction, account.id)
    return None


def change_own(
    store: Store, session: Session, change: OwnChange, origin: Origin
) -> frozenset[web_passwords.Fault] | Refusal:
    """Make it the person's web password at once; or say what R14 finds wrong with it.

    REFUSED if the one given is not the one in force, or was tried too often: it counts as a login
    does (D05). Every other session of the person ends, in whichever dossier; this one goes on.
    SessionEndedError, also for one that is for some steps only; NotAllowedError for one that is not
    a person's (D11); ClosedError while an incident closes the channel (D15).
    """
    with store.database.read() as transaction:
        person = _person(store, transaction, session)
        handle = web_accounts.handle_of(transaction, person)
    rules, now = store.rules.web_password, store.clock()
    faults = web_passwords.faults(rules, change.chosen, now, change.current)
    if faults:
        return faults
    reserved = web_accounts.reserve(store, handle, change.current, origin)

    def settle(match: Match) -> frozenset[web_passwords.Fault] | Refusal:
        hashed = store.hasher.hash(change.chosen)
        with store.database.write() as transaction:
            # Locked first, so that of two changes at once the second finds its session ended.
            web_accounts.lock(store, transaction, person)
            owner = _person(store, transaction, session)
            stored = transaction.get_one(Credential, match.credential.id, with_for_update=True)
            came_nir = web_accounts.handle_of(transaction, owner) != handle  # nothing carries over
            if stored.state == CredentialState.ENDED or came_nir:
                audit.note(transaction, "login-refused", store.clock(), origin, None)
                return Refusal.REFUSED
            web_accounts.set_password(store, transaction, owner, hashed, origin, kept=session)
            throttles.clear(transaction.connection(), reserved.attempt)
        return faults

    return credentials.compare_and_settle(store, reserved, change.current, settle)


def _read(store: Store, session: Session) -> _Dossier:
    with store.database.read() as transaction:
        account = _account(store, transaction, session)
        people = transaction.scalars(select(Person).where(Person.account_id == account.id)).all()
        connection = transaction.connection()
        return _Dossier(
            known=known_of(account.number, [open_person(store.keys, one) for one in people]),
            usable=credentials.usable(connection, account.id, CredentialKind.PASSWORD),
        )


def _account(store: Store, transaction: Transaction, session: Session) -> Account:
    """Give the session's dossier, if its password may be changed with it now."""
    sessions.account_of(store, transaction, session, changing=True)
    holder = _holder(transaction, session)
    channel = Channel(transaction.get_one(LoginSession, session.token_hash).channel)
    is_open = store.rules.may_log_in(
        CredentialKind.PASSWORD, Identifier.NUMBER, channel, store.clock()
    )
    if channel is Channel.VOICE or not is_open:
        raise NotAllowedError("the dossier's password is not changed there")
    if holder.person_id is not None:
        raise NotAllowedError("not a session of the dossier's own password")
    return transaction.get_one(Account, holder.account_id)


def _person(store: Store, transaction: Transaction, session: Session) -> Person:
    """Give the session's person, if the web password may be changed with it now."""
    sessions.account_of(store, transaction, session)
    holder = _holder(transaction, session)
    if holder.person_id is None:
        raise NotAllowedError("not a person's session")
    return transaction.get_one(Person, holder.person_id)


def _holder(transaction: Transaction, session: Session) -> Holder:
    """Say whose an open session is, if they may change a password of theirs."""
    holder = rights.holder_of(transaction, session)
    if not holder.may(Right.CHANGE_OWN_PASSWORD):
        raise NotAllowedError("this person may not change a password")
    return holder


def _add(
    store: Store, transaction: Transaction, account: Account, hashed: str, session: Session
) -> None:
    now = store.clock()
    credential = Credential(
        id=uuid4(),
        account_id=account.id,
        kind=CredentialKind.PASSWORD,
        state=CredentialState.ACTIVE,
        origin=CredentialOrigin.OWNER,
        created_at=now,
        expires_at=lives.term(store.rules, CredentialOrigin.OWNER, now).expires_at,
    )
    credential.hash_sealed = credentials.seal_hash(store, credential, hashed)
    transaction.add(credential)
    throttles.end_row(transaction, credentials.throttle_key(store, account.caisse, account.number))
    audit.note(
        transaction,
        "password-changed",
        now,
        session.origin,
        account.id,
        subject_id=credential.id,
    )


def _end_other_sessions(
    transaction: Transaction, account_id: UUID, session: Session, now: datetime
) -> None:
    this = LoginSession.token_hash == session.token_hash
    transaction.execute(
        update(LoginSession)
        .where(LoginSession.account_id == account_id, LoginSession.ended_at.is_(None), ~this)
        .values(ended_at=now)
    )
    transaction.execute(update(LoginSession).where(this).values(change_only=False))
