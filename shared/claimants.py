"""Reads claimants from a CSV file into the store, all of them or none (docs/claimants.md).

The whole file is checked before anything is written, and every bad line is reported. What a cell
holds never leaves this module: a finding names a line, a column and a rule.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated
from uuid import UUID, uuid4

import phonenumbers
from phonenumbers import PhoneNumberType
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from sqlalchemy import select
from sqlalchemy.orm import Session as Transaction

from shared import audit, before, csv_file, nir
from shared.csv_file import Cells, Finding, ImportRefusedError, Line, matching, no_formula, refusal
from shared.identifiers import CAISSE, NUMBER, OVERSEAS, e164
from shared.models import Account, Person, Role, Situation
from shared.nir import BadNirError
from shared.origin import ADMIN
from shared.people import (
    Address,
    PersonData,
    blind_indexes,
    identity_key,
    open_person,
    seal_person,
)
from shared.progress import Progress, unheard
from shared.rules import PARIS
from shared.store import Store

BATCH = 500  # lines looked up in one statement, well below what a statement can bind

PHONE = re.compile(r"[0-9+() .-]+")
MOBILE_TYPES = (PhoneNumberType.MOBILE, PhoneNumberType.FIXED_LINE_OR_MOBILE)

# A cell that is filled needs these filled too.
NEEDS = {
    "mobile_depuis": ("mobile",),
    "adresse1": ("code_postal", "ville"),
    "adresse2": ("adresse1",),
    "code_postal": ("adresse1",),
    "ville": ("adresse1",),
    "adresse_depuis": ("adresse1",),
}


@dataclass(frozen=True)
class ImportResult:
    """How many lines made a new person, changed something, changed nothing, were left aside."""

    created: int
    updated: int
    unchanged: int
    closed: int = 0  # their dossier is: it moved away (R08), or its people were erased (D16)


def import_claimants(store: Store, file: Path, report: Progress = unheard) -> ImportResult:
    """Store every person of the file, in one transaction.

    ImportRefusedError if any line is at fault, SettingsError if the file cannot be read.
    """
    today = store.clock().astimezone(PARIS).date()
    columns, lines = csv_file.read(file, COLUMNS)
    steps = 2 * len(lines)
    claimants = _check(columns, lines, today, lambda done: report(done, steps))
    with store.database.write() as transaction:
        # Two imports at once would both create a person that neither of them finds.
        lock(store, transaction)
        upsert = _Upsert(store, transaction, today)
        for start in range(0, len(claimants), BATCH):
            report(len(lines) + start, steps)
            upsert.store_batch(claimants[start : start + BATCH])
        if upsert.findings:
            raise ImportRefusedError(*upsert.findings)
        result = ImportResult(upsert.created, upsert.updated, upsert.unchanged, upsert.closed)
        _note(store, transaction, result)
    report(steps, steps)
    return result


def lock(store: Store, transaction: Transaction) -> None:
    """Hold imports off until this transaction ends; StoreDownError if one takes too long."""
    store.database.lock(transaction, store.keys.index("lock", "claimants"))


def _note(store: Store, transaction: Transaction, result: ImportResult) -> None:
    counts = " ".join(f"{name}:{count}" for name, count in asdict(result).items())
    audit.note(transaction, "claimants-imported", store.clock(), ADMIN, None, actor=counts)


# The cells of a line


def _nir(cell: str) -> str:
    try:
        return nir.parse(cell)
    except BadNirError as error:
        raise refusal(str(error)) from None


def _past_date(cell: str, info: ValidationInfo[dict[str, date]]) -> date:
    if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", cell) is None:
        raise refusal("date attendue sous la forme AAAA-MM-JJ")
    try:
        day = date.fromisoformat(cell)
    except ValueError:
        raise refusal("cette date n'existe pas") from None
    if day > info.context["today"]:
        raise refusal("date à venir")
    return day


def _phone(cell: str) -> str:
    number = e164(cell) if PHONE.fullmatch(cell) else None
    if number is None:
        raise refusal("numéro de téléphone non valide")
    return number


def _mobile(cell: str) -> str:
    number = _phone(cell)
    if phonenumbers.number_type(phonenumbers.parse(number)) not in MOBILE_TYPES:
        raise refusal("numéro de mobile attendu")
    return number


def _landline(cell: str) -> str:
    number = _phone(cell)
    if phonenumbers.region_code_for_number(phonenumbers.parse(number)) not in (*OVERSEAS, "FR"):
        raise refusal("numéro français attendu")
    return number


def _with_letters(cell: str) -> str:
    if not any(char.isalpha() for char in cell):
        raise refusal("un nom contient au moins une lettre")
    return cell


_Text = Annotated[str, Field(max_length=100), AfterValidator(no_formula)]
_Name = Annotated[_Text, AfterValidator(_with_letters)]
_Email = Annotated[
    str,
    Field(max_length=254),
    AfterValidator(no_formula),
    matching(r"[^@\s]+@[^@\s]+\.[^@\s.]+", "adresse électronique attendue"),
]
_PastDate = Annotated[date, BeforeValidator(_past_date)]


class Row(Cells):
    """One line of the file. Validated with today's date."""

    caisse: Annotated[str, matching(CAISSE, "code de caisse inconnu")]
    numero: Annotated[str, matching(NUMBER, "7 chiffres attendus")]
    role: Annotated[Role, matching("|".join(Role), "attendu : " + ", ".join(Role))]
    situation: Annotated[
        Situation, matching("|".join(Situation), "attendu : " + ", ".join(Situation))
    ]
    nir: Annotated[str, BeforeValidator(_nir)] | None = None
    nom: _Name
    prenoms: _Name | None = None
    naissance: _PastDate | None = None
    mobile: Annotated[str, BeforeValidator(_mobile)] | None = None
    mobile_depuis: _PastDate | None = None
    fixe: Annotated[str, BeforeValidator(_landline)] | None = None
    email: _Email | None = None
    adresse1: _Text | None = None
    adresse2: _Text | None = None
    code_postal: Annotated[str, matching("[0-9]{5}", "5 chiffres attendus")] | None = None
    ville: _Text | None = None
    adresse_depuis: _PastDate | None = None

    @field_validator("*", mode="before")
    @classmethod
    def _printable(cls, cell: str) -> str:
        if not cell.isprintable():
            raise refusal("caractère de contrôle ou invisible")
        return cell

    def person(self) -> PersonData:
        """Give what the line says of the person."""
        return PersonData(
            surname=self.nom,
            given_names=self.prenoms,
            birth_date=self.naissance,
            nir=self.nir,
            mobile=self.mobile,
            mobile_since=self.mobile_depuis,
            landline=self.fixe,
            email=self.email,
            address=self._address(),
            address_since=self.adresse_depuis,
        )

    def _address(self) -> Address | None:
        if self.adresse1 is None or self.code_postal is None or self.ville is None:
            return None
        return Address(self.adresse1, self.adresse2, self.code_postal, self.ville)


COLUMNS = tuple(Row.model_fields)


# The lines of the file


@dataclass(frozen=True, slots=True, repr=False)
class _Claimant:
    """A line that is right in itself."""

    line: int
    caisse: str
    number: str
    role: Role
    situation: Situation
    data: PersonData

    @property
    def dossier(self) -> tuple[str, str]:
        return self.caisse, self.number


_Accounts = dict[tuple[str, str], Account]


def _check(
    columns: list[str], lines: list[Line], today: date, report: Callable[[int], None]
) -> list[_Claimant]:
    """Check each line alone and against the others; ImportRefusedError with all that is wrong."""
    claimants: list[_Claimant] = []
    findings: list[Finding] = []
    earlier = _Earlier()
    for done, (number, line) in enumerate(lines):
        if done % BATCH == 0:
            report(done)
        try:
            claimant = _claimant(number, line, columns, today)
        except ImportRefusedError as error:
            findings += error.findings
        else:
            findings += earlier.contradictions(claimant)
            claimants.append(claimant)
    if findings:
        raise ImportRefusedError(*findings)
    return claimants


def _claimant(number: int, line: bytes, columns: list[str], today: date) -> _Claimant:
    filled = csv_file.filled(number, line, columns)
    findings = [Finding(number, column, reason) for column, reason in _incomplete(filled)]
    try:
        row = Row.model_validate(filled, context={"today": today})
    except ValidationError as error:
        findings += csv_file.findings(number, error)
    if findings:
        raise ImportRefusedError(*findings)
    return _Claimant(number, row.caisse, row.numero, row.role, row.situation, row.person())


def _incomplete(filled: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Give the columns that are missing for what other cells say."""
    if "nir" not in filled and "naissance" not in filled:
        yield "naissance", "obligatoire sans NIR"
    for column, needed in NEEDS.items():
        if column in filled:
            for other in needed:
                if other not in filled:
                    yield other, f"obligatoire avec {column}"


@dataclass
class _Earlier:
    """What earlier lines said, by line number, to find those that contradict them."""

    people: dict[tuple[str, ...], int] = field(default_factory=dict)
    allocataires: dict[tuple[str, str], int] = field(default_factory=dict)
    situations: dict[tuple[str, str], tuple[Situation, int]] = field(default_factory=dict)

    def contradictions(self, claimant: _Claimant) -> Iterator[Finding]:
        line, dossier = claimant.line, claimant.dossier
        same = {
            self.people.setdefault((*dossier, claimant.role, key), line)
            for key in (claimant.data.nir, identity_key(claimant.data))
            if key
        }
        if min(same) != line:
            yield Finding(line, None, f"même personne qu'à la ligne {min(same)}")
        elif claimant.role is Role.ALLOCATAIRE:
            first = self.allocataires.setdefault(dossier, line)
            if first != line:
                yield Finding(line, "role", f"le dossier a déjà un allocataire, ligne {first}")
        situation, first = self.situations.setdefault(dossier, (claimant.situation, line))
        if situation != claimant.situation:
            yield Finding(line, "situation", f"n'est pas celle du dossier à la ligne {first}")


# The rows of the store


class _Upsert:
    """Stores claimants by batches in one transaction; what it cannot store is in `findings`."""

    def __init__(self, store: Store, transaction: Transaction, today: date) -> None:
        self.created = 0
        self.updated = 0
        self.unchanged = 0
        self.closed = 0
        self.findings: list[Finding] = []
        self._store = store
        self._transaction = transaction
        self._today = today
        self._trusted_from = today - timedelta(days=store.rules.reset.contact_days)
        self._lines: dict[UUID, int] = {}  # that a person already stored was found for

    def store_batch(self, claimants: Sequence[_Claimant]) -> None:
        """Create or update the claimants' rows; a statement looks many up at once."""
        accounts = self._accounts(claimants)
        people = self._people(accounts)
        for claimant in claimants:
            account = accounts[claimant.dossier]
            self._store_one(claimant, account, people[account.id])
        self._transaction.flush()
        self._transaction.expunge_all()

    def _accounts(self, claimants: Sequence[_Claimant]) -> _Accounts:
        """Give the claimants' dossiers; those that are new are created (D01)."""
        dossiers = {claimant.dossier: claimant.situation for claimant in claimants}
        # SQLite scans the whole table for `(caisse, number) IN …`; so it uses the index.
        found = self._transaction.scalars(
            select(Account).where(
                Account.caisse.in_({caisse for caisse, _ in dossiers}),
                Account.number.in_({number for _, number in dossiers}),
            )
        )
        accounts = {(account.caisse, account.number): account for account in found}
        for (caisse, number), situation in dossiers.items():
            if (caisse, number) not in accounts:
                accounts[caisse, number] = Account(
                    id=uuid4(),
                    caisse=caisse,
                    number=number,
                    situation=situation,
                    created_at=self._store.clock(),
                )
                self._transaction.add(accounts[caisse, number])
        self._transaction.flush()
        return accounts

    def _people(self, accounts: _Accounts) -> dict[UUID, list[Person]]:
        people: dict[UUID, list[Person]] = defaultdict(list)
        ids = [account.id for account in accounts.values()]
        for person in self._transaction.scalars(select(Person).where(Person.account_id.in_(ids))):
            people[person.account_id].append(person)
        return people

    def _store_one(self, claimant: _Claimant, account: Account, people: list[Person]) -> None:
        if account.closed_at is not None:
            self.closed += 1
            return
        indexes = blind_indexes(self._store.keys, claimant.data)
        known = _find(people, claimant.role, indexes)
        if known is None:
            self._create(claimant, account, people)
            return
        first = self._lines.setdefault(known.id, claimant.line)
        if first != claimant.line:
            self._refuse(claimant, None, f"même personne enregistrée qu'à la ligne {first}")
            return
        self._update(claimant, account, known, people)

    def _create(self, claimant: _Claimant, account: Account, people: list[Person]) -> None:
        if claimant.role is Role.ALLOCATAIRE and any(
            person.role == Role.ALLOCATAIRE for person in people
        ):
            self._refuse(claimant, "role", "le dossier enregistré a un autre allocataire")
            return
        person_id = uuid4()
        columns = seal_person(self._store.keys, person_id, claimant.data)
        person = Person(id=person_id, account_id=account.id, role=claimant.role, **columns)
        self._transaction.add(person)
        people.append(person)
        account.situation = claimant.situation
        self.created += 1

    def _update(
        self, claimant: _Claimant, account: Account, known: Person, people: list[Person]
    ) -> None:
        data = open_person(self._store.keys, known)
        after = _merged(data, claimant.data, self._today, self._trusted_from)
        if after == data and account.situation == claimant.situation:
            self.unchanged += 1
            return
        columns = seal_person(self._store.keys, known.id, after)
        others = [person for person in people if person is not known]
        if _find(others, claimant.role, columns) is not None:
            self._refuse(claimant, None, "NIR et état civil de deux personnes enregistrées")
            return
        change = before.Change("contacts-changed", self._store.clock(), ADMIN, known)
        before.note(self._store, self._transaction, change)
        for column, value in columns.items():
            setattr(known, column, value)
        account.situation = claimant.situation
        self.updated += 1

    def _refuse(self, claimant: _Claimant, column: str | None, reason: str) -> None:
        self.findings.append(Finding(claimant.line, column, reason))


def _find(people: list[Person], role: Role, indexes: Mapping[str, object]) -> Person | None:
    """Find the person with this NIR or, failing that, with this civil status."""
    for column in ("nir_index", "identity_index"):
        index = indexes[column]
        for person in people:
            if index is not None and person.role == role and getattr(person, column) == index:
                return person
    return None


def _merged(known: PersonData, given: PersonData, today: date, trusted_from: date) -> PersonData:
    """An empty cell keeps what tells who the person is, and takes a contact away."""
    return replace(
        given,
        given_names=given.given_names or known.given_names,
        birth_date=given.birth_date or known.birth_date,
        nir=given.nir or known.nir,
        mobile_since=given.mobile_since
        or (known.mobile_since if given.mobile == known.mobile else today),
        mobile_before=_mobile_before(known, given, trusted_from),
        email_since=known.email_since if given.email == known.email else today,
        address_since=given.address_since
        or (known.address_since if given.address == known.address else today),
        address_before=_address_before(known, given, trusted_from),
    )


def _address_before(known: PersonData, given: PersonData, trusted_from: date) -> Address | None:
    """Give the last address that was trusted: not one that itself came lately (D04)."""
    came_lately = known.address_since is not None and known.address_since > trusted_from
    kept = given.address == known.address or came_lately
    return known.address_before if kept else known.address


def _mobile_before(known: PersonData, given: PersonData, trusted_from: date) -> str | None:
    """Give the last mobile that was trusted: not one that itself came lately (D04)."""
    came_lately = known.mobile_since is not None and known.mobile_since > trusted_from
    return known.mobile_before if given.mobile == known.mobile or came_lately else known.mobile
