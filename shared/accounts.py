"""Accounts as those who run the service see them: made for demo and tests, and shown."""

from dataclasses import dataclass, field
from uuid import uuid4

from sqlalchemy import Select, func, select

from shared import credentials, sessions
from shared.errors import StoreError
from shared.identifiers import CAISSE, e164, is_number
from shared.models import (
    Account,
    Credential,
    CredentialState,
    LoginSession,
    Person,
    Role,
    Situation,
)
from shared.people import PersonData, seal_person
from shared.rules import PARIS, CredentialKind
from shared.secret import Secret
from shared.store import Store

KINDS: dict[str, str] = {
    CredentialKind.PASSWORD: "mot de passe",
    CredentialKind.CODE: "code confidentiel",
}
STATES: dict[str, str] = {
    CredentialState.PENDING: "en attente",
    CredentialState.ACTIVE: "actif",
    CredentialState.ENDED: "terminé",
}


class BadAccountError(StoreError):
    """What is asked for is not an account: why, in French, without quoting it."""


@dataclass(frozen=True)
class NewAccount:
    """A dossier with one allocataire; repr hides whose."""

    caisse: str
    number: str = field(repr=False)
    mobile: str | None = field(repr=False)

    def check(self) -> None:
        """Raise BadAccountError for the first thing that is wrong."""
        if not CAISSE.fullmatch(self.caisse):
            raise BadAccountError("caisse : deux chiffres, 2A, 2B, 641, 642, 971 à 974 ou 976")
        if not is_number(self.number):
            raise BadAccountError("numéro : 7 chiffres, zéros du début compris")
        if self.mobile is not None and self.mobile != e164(self.mobile):
            raise BadAccountError("mobile : un numéro valide, de la forme +33612345678")


def add(store: Store, account: NewAccount, password: Secret) -> None:
    """Make an account with a given password: demo and tests only (D12).

    BadAccountError if something is wrong, or the account exists.
    """
    account.check()
    check_password(password)
    with store.database.write() as transaction:
        if transaction.scalar(named(account.caisse, account.number)) is not None:
            raise BadAccountError("ce dossier existe déjà")
        row = Account(
            id=uuid4(),
            caisse=account.caisse,
            number=account.number,
            situation=Situation.AFFILIE,
            created_at=store.clock(),
        )
        transaction.add(row)
        transaction.flush()
        person = Person(id=uuid4(), account_id=row.id, role=Role.ALLOCATAIRE)
        for column, value in seal_person(
            store.keys, person.id, PersonData(mobile=account.mobile)
        ).items():
            setattr(person, column, value)
        transaction.add(person)
    credentials.set_secret(store, account.caisse, account.number, password)


def check_password(password: Secret) -> None:
    """Raise BadAccountError unless it is 8 digits (R02)."""
    text = password.reveal()
    if not (len(text) == 8 and text.isascii() and text.isdigit()):
        raise BadAccountError("mot de passe : 8 chiffres")


@dataclass(frozen=True)
class AccountView:
    """What may be shown of an account: no name, no contact, no secret."""

    caisse: str
    situation: str
    closed: bool  # moved away or erased: nothing opens it
    persons: list[str]  # « allocataire, mobile » …
    credentials: list[str]  # « mot de passe en attente, du 2021-10-09 » …
    open_sessions: int


def show(store: Store, caisse: str, number: str) -> AccountView | None:
    """Describe an account; None if there is no such one."""
    with store.database.read() as transaction:
        account = transaction.scalar(named(caisse, number))
        if account is None:
            return None
        persons = transaction.scalars(
            select(Person).where(Person.account_id == account.id).order_by(Person.role)
        )
        secrets = transaction.scalars(
            select(Credential)
            .where(Credential.account_id == account.id)
            .order_by(Credential.created_at)
        )
        open_sessions = transaction.scalar(
            select(func.count())
            .select_from(LoginSession)
            .join(Account, Account.id == LoginSession.account_id)
            .where(Account.id == account.id, sessions.is_open(store.clock()))
        )
        return AccountView(
            caisse=account.caisse,
            situation=account.situation,
            closed=account.closed_at is not None,
            persons=[_person(person) for person in persons],
            credentials=[_credential(credential) for credential in secrets],
            open_sessions=open_sessions or 0,
        )


def named(caisse: str, number: str) -> Select[Account]:
    """Select the dossier of that name, open or closed (D01)."""
    return select(Account).where(Account.caisse == caisse, Account.number == number)


def _credential(credential: Credential) -> str:
    day = credential.created_at.astimezone(PARIS)
    return f"{KINDS[credential.kind]} {STATES[credential.state]}, du {day:%Y-%m-%d}"


def _person(person: Person) -> str:
    held = [
        word
        for word, value in (
            ("NIR", person.nir_sealed),
            ("mobile", person.mobile_sealed),
            ("fixe", person.landline_sealed),
            ("e-mail", person.email_sealed),
            ("adresse", person.address_sealed),
        )
        if value is not None
    ]
    return ", ".join([person.role, *held])
