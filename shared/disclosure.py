"""What a person may ask for: all that is held on a dossier, and its erasure (D16).

Both are an admin's, for a request that was checked outside this program, and both are audited.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import date, datetime
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import Select, and_, delete, exists, not_, or_, select, update
from sqlalchemy.orm import Session as Transaction

from shared import audit, before, claimants, dossier_store, feed, outbox, provisional
from shared.accounts import named
from shared.contacts import on_file
from shared.models import (
    UNDER_WAY,
    Account,
    AuditEntry,
    Base,
    Credential,
    CredentialState,
    DossierSection,
    EndedBy,
    InboundMessage,
    LoginSession,
    Message,
    OptOut,
    Person,
    Route,
    VerificationCode,
    WebAccount,
)
from shared.origin import ADMIN
from shared.people import open_person
from shared.store import Store

B = TypeVar("B", bound=Base)

# What tells who a person is, and how to reach them.
PERSONAL = (
    "nir_sealed",
    "nir_index",
    "identity_sealed",
    "identity_index",
    *before.CONTACTS,
)


def export(store: Store, caisse: str, number: str) -> str | None:
    """Give all that is held on a dossier and its people as JSON; None if there is no such one.

    Of secrets only that they exist: nobody could read them.
    """
    with store.database.write() as transaction:
        account = transaction.scalar(named(caisse, number))
        if account is None:
            return None
        audit.note(transaction, "read-export", store.clock(), ADMIN, account.id)
        transaction.flush()
        people = transaction.scalars(_of(Person, account.id)).all()
        contacts = _contacts(store, people)
        opted_out = select(OptOut).where(OptOut.contact_index.in_(contacts))
        data = {
            "dossier": {
                "caisse": account.caisse,
                "numero": account.number,
                "situation": account.situation,
                "cree": account.created_at,
                "clos": account.closed_at,
            },
            "personnes": [_person(store, person) for person in people],
            "comptes_web": [
                _web_account(store, row) for row in transaction.scalars(_web_accounts(account.id))
            ],
            "secrets": _rows(transaction, _credentials(account.id), _credential),
            "messages": _rows(transaction, _of(Message, account.id), _message),
            "refus_de_campagnes": _rows(transaction, opted_out.order_by(OptOut.at), _opt_out),
            "sms_recus": _rows(transaction, _words(contacts), _word),
            "codes": _rows(transaction, _codes(account.id), _code),
            "connexions": _rows(transaction, _of(LoginSession, account.id), _session),
            "rubriques": [
                _section(store, row) for row in dossier_store.sections_of(transaction, account.id)
            ],
            "journal": _rows(transaction, _of(AuditEntry, account.id), _entry),
        }
    return json.dumps(data, ensure_ascii=False, indent=2, default=_text) + "\n"


def erase(store: Store, caisse: str, number: str) -> bool:
    """Make a dossier nobody's: its people anonymous, its secrets and messages ended, itself closed.

    What campaigns hold for its people's contacts ends too, whoever shares them. What those people
    wrote to us is forgotten, but not that they want no campaign (`OptOut`); so is what was imported
    of the dossier. The number and the audit stay as long as the law wants them (docs/securite.md).
    Run again, it erases what came since. False if there is no such dossier.
    """
    now = store.clock()
    with store.database.write() as transaction:
        claimants.lock(store, transaction)  # an import would store again what it read before
        account = transaction.scalar(named(caisse, number).with_for_update(key_share=True))
        if account is None:
            return False
        if account.closed_at is None:
            account.closed_at = now
        account.epoch += 1
        _end_secrets(transaction, account.id, now)
        dossier_store.forget(store, transaction, account.id)
        contacts = _contacts(store, transaction.scalars(_of(Person, account.id)).all())
        transaction.execute(
            delete(InboundMessage).where(InboundMessage.contact_index.in_(contacts))
        )
        transaction.execute(
            update(Person)
            .where(Person.account_id == account.id)
            .values(dict.fromkeys((*PERSONAL, "delegated_at")))
        )
        of_nobody = and_(Message.account_id.is_(None), Message.destination_index.in_(contacts))
        to_it = or_(Message.account_id == account.id, of_nobody)
        outbox.Replacement(to_it).run(transaction.connection(), now)
        over = Message.state.not_in(UNDER_WAY)  # by the index of one that is sent, a STOP ends it
        transaction.execute(update(Message).where(to_it, over).values(destination_index=None))
        audit.note(transaction, "dossier-erased", now, ADMIN, account.id)
        feed.tell_erased(store, transaction, account.id, now)
    return True


def _end_secrets(transaction: Transaction, account_id: UUID, now: datetime) -> None:
    """End the dossier's secrets, and the web accounts of people who have no other dossier."""
    web_accounts = transaction.scalars(_only_here(account_id)).all()
    for account in web_accounts:
        account.ended_at = now
        account.nir_index = account.provisional_index = account.provisional_sealed = None
    transaction.execute(
        update(Credential)
        .where(
            or_(
                Credential.account_id == account_id,
                Credential.web_account_id.in_([account.id for account in web_accounts]),
            ),
            Credential.state != CredentialState.ENDED,
        )
        .values(state=CredentialState.ENDED, ended_at=now, ended_by=EndedBy.ERASED)
    )


def _of(model: type[B], account_id: UUID) -> Select[B]:
    """Select a table's rows of one dossier."""
    table: Any = model
    return (
        select(model).where(table.account_id == account_id).order_by(*model.__table__.primary_key)
    )


def _web_accounts(account_id: UUID) -> Select[WebAccount]:
    """Select the web accounts of a dossier's people."""
    holder = or_(WebAccount.person_id == Person.id, WebAccount.nir_index == Person.nir_index)
    return select(WebAccount).where(exists().where(Person.account_id == account_id, holder))


def _only_here(account_id: UUID) -> Select[WebAccount]:
    """Select those of people who are in no other open dossier."""
    elsewhere = exists().where(
        Person.nir_index == WebAccount.nir_index,
        Person.account_id == Account.id,
        Account.id != account_id,
        Account.closed_at.is_(None),
    )
    return _web_accounts(account_id).where(not_(elsewhere))


def _credentials(account_id: UUID) -> Select[Credential]:
    of_people = _web_accounts(account_id).with_only_columns(WebAccount.id)
    return select(Credential).where(
        or_(Credential.account_id == account_id, Credential.web_account_id.in_(of_people))
    )


def _codes(account_id: UUID) -> Select[VerificationCode]:
    people = select(Person.id).where(Person.account_id == account_id)
    return select(VerificationCode).where(VerificationCode.person_id.in_(people))


def _contacts(store: Store, people: Sequence[Person]) -> list[bytes]:
    """Give the blind indexes of what people can be written to at."""
    known = [open_person(store.keys, person) for person in people]
    found = (on_file(person, route) for person in known for route in (Route.SMS, Route.MAIL))
    return [contact.index(store.keys) for contact in found if contact is not None]


def _words(contacts: Sequence[bytes]) -> Select[InboundMessage]:
    of_them = select(InboundMessage).where(InboundMessage.contact_index.in_(contacts))
    return of_them.order_by(InboundMessage.id)


def _rows(
    transaction: Transaction, statement: Select[B], view: Callable[[B], dict[str, Any]]
) -> list[dict[str, Any]]:
    return [view(row) for row in transaction.scalars(statement)]


def _person(store: Store, person: Person) -> dict[str, Any]:
    data = asdict(open_person(store.keys, person))
    return {"role": person.role, "delegation_depuis": person.delegated_at, **data}


def _web_account(store: Store, account: WebAccount) -> dict[str, Any]:
    has_one = account.provisional_sealed is not None
    return {
        "identifiant_provisoire": provisional.identifier_of(store, account) if has_one else None,
        "cree": account.created_at,
        "clos": account.ended_at,
    }


def _credential(credential: Credential) -> dict[str, Any]:
    return {
        "nature": credential.kind,
        "etat": credential.state,
        "origine": credential.origin,
        "cree": credential.created_at,
        "expire": credential.expires_at,
        "premier_usage": credential.first_used_at,
        "fin": credential.ended_at,
    }


def _message(message: Message) -> dict[str, Any]:
    return {
        "voie": message.route,
        "modele": message.template,
        "etat": message.state,
        "cree": message.created_at,
        "fin": message.ended_at,
    }


def _opt_out(opt_out: OptOut) -> dict[str, Any]:
    return {"depuis": opt_out.at, "par": opt_out.source}


def _word(word: InboundMessage) -> dict[str, Any]:
    return {"quand": word.at, "mot": word.keyword, "numero": word.called}


def _code(code: VerificationCode) -> dict[str, Any]:
    return {"objet": code.purpose, "cree": code.created_at, "utilise": code.used_at}


def _session(session: LoginSession) -> dict[str, Any]:
    return {"canal": session.channel, "ouverte": session.opened_at, "fin": session.ended_at}


def _section(store: Store, row: DossierSection) -> dict[str, Any]:
    content = store.keys.open(row.content_sealed, *dossier_store.binding(row))
    return {"rubrique": row.section, "au": row.as_of, "contenu": json.loads(content)}


def _entry(entry: AuditEntry) -> dict[str, Any]:
    return {"quand": entry.at, "quoi": entry.event, "canal": entry.channel, "par": entry.actor}


def _text(value: object) -> str:
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(f"no JSON for a {type(value).__name__}")
