"""The dossier's password, changed by its owner: on the web, in the app, at a kiosk (R07, R09).

Nobody chooses one on the telephone (R03), nor where it does not log in any more (D10): the 8 digits
that the telephone keeps from 9 October 2021 are replaced by « mot de passe oublié » alone (D02).
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
)
from shared.credentials import Candidate
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
from shared.passwords import Fault, KnownOf
from shared.people import open_person
from shared.resets import known_of
from shared.rights import Right
from shared.rules import Channel, CredentialKind, Identifier
from shared.secret import Secret
from shared.sessions import Session
from shared.store import Store


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
    account_id = sessions.account_of(store, transaction, session, changing=True)
    row = transaction.get_one(LoginSession, session.token_hash)
    channel = Channel(row.channel)
    is_open = store.rules.may_log_in(
        CredentialKind.PASSWORD, Identifier.NUMBER, channel, store.clock()
    )
    if channel is Channel.VOICE or not is_open:
        raise NotAllowedError("the dossier's password is not changed there")
    holder = rights.holder_of(transaction, session)
    if holder.person_id is not None or not holder.may(Right.CHANGE_OWN_PASSWORD):
        raise NotAllowedError("not a session of the dossier's own password")
    return transaction.get_one(Account, account_id)


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
