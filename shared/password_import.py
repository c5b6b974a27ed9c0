"""Takes over the passwords and codes of an earlier system from a CSV file, all of them or none.

The whole file is checked before anything is written, and every bad line is reported. What a cell
holds never leaves this module: a finding names a line, a column and a rule.
"""

import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal, TypeVar
from uuid import UUID

from pydantic import BeforeValidator, ValidationError
from sqlalchemy import select

from shared import audit, csv_file, feed, life_cycle
from shared.csv_file import Cells, Finding, ImportRefusedError, Line, matching, refusal
from shared.hashing import Foreign, read_foreign
from shared.identifiers import CAISSE, NUMBER
from shared.legacy import BadDigestError
from shared.life_cycle import Key, TakenOver
from shared.models import Account, Credential, CredentialOrigin
from shared.origin import ADMIN
from shared.progress import Progress, unheard
from shared.rules import PARIS, CredentialKind
from shared.store import Store

BATCH = 500  # rows looked up in one statement, well below what a statement can bind
INSTANT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2}:[0-9]{2})?")
KINDS = {"mot-de-passe": CredentialKind.PASSWORD, "code": CredentialKind.CODE}

T = TypeVar("T")


@dataclass(frozen=True)
class ImportResult:
    """How many lines were taken over, were before, or give way to something newer of ours."""

    taken: int
    unchanged: int
    outdated: int


def import_passwords(store: Store, file: Path, report: Progress = unheard) -> ImportResult:
    """Take over every line of the file, in one transaction.

    A line that was taken over before changes nothing, whatever became of its credential since.
    ImportRefusedError if any line is at fault, SettingsError if the file cannot be read.
    """
    columns, lines = csv_file.read(file, COLUMNS)
    steps = _Steps(report, 3 * len(lines))
    rows = _check(store, columns, lines, steps)
    known = _known(store, rows)
    new = [row for row in rows if row.id not in known]
    steps.done(len(known))
    hashes = _hash(store, new, steps)
    taken = _store(store, new, hashes, steps)
    steps.end()
    return ImportResult(taken, len(known), len(new) - taken)


@dataclass
class _Steps:
    """Counts the steps: a line is one when it is checked, when it is hashed, when it is stored."""

    report: Progress
    of: int
    so_far: int = 0

    def done(self, steps: int) -> None:
        self.so_far += steps
        self.report(self.so_far, self.of)

    def end(self) -> None:
        self.report(self.of, self.of)


# The cells of a line


def _kind(cell: str) -> CredentialKind:
    if cell not in KINDS:
        raise refusal("attendu : " + ", ".join(KINDS))
    return KINDS[cell]


def _instant(cell: str) -> datetime:
    """Read a day or a second of Paris time; a day is meant from its beginning."""
    if INSTANT.fullmatch(cell) is None:
        raise refusal("attendu : AAAA-MM-JJ ou AAAA-MM-JJTHH:MM:SS, heure de Paris")
    try:
        return datetime.fromisoformat(cell).replace(tzinfo=PARIS).astimezone(UTC)
    except (ValueError, OverflowError):
        raise refusal("cette date n'existe pas") from None


class Row(Cells):
    """One line of the file."""

    caisse: Annotated[str, matching(CAISSE, "code de caisse inconnu")]
    numero: Annotated[str, matching(NUMBER, "7 chiffres attendus")]
    type: Annotated[CredentialKind, BeforeValidator(_kind)]
    procede: str
    empreinte: str
    cree_le: Annotated[datetime, BeforeValidator(_instant)] | None = None
    provisoire: Annotated[Literal["oui"], matching("oui", "« oui » ou rien attendu")] | None = None


COLUMNS = tuple(Row.model_fields)


# The lines of the file


@dataclass(frozen=True, slots=True, repr=False)
class _Given:
    """A line that is right in itself."""

    line: int
    id: UUID  # made of what the line says: the same line is the same credential
    key: Key
    kind: CredentialKind
    foreign: Foreign
    created_at: datetime | None
    provisional: bool

    def taken_over(self, hashed: str) -> TakenOver:
        """Give what the store takes over."""
        origin = CredentialOrigin.IMPORTED
        return TakenOver(self.id, self.kind, origin, hashed, self.created_at, self.provisional)


def _check(store: Store, columns: list[str], lines: Sequence[Line], steps: _Steps) -> list[_Given]:
    """Check each line alone and against the others; ImportRefusedError with all that is wrong."""
    rows: list[_Given] = []
    findings: list[Finding] = []
    earlier: dict[tuple[Key, CredentialKind], int] = {}
    for number, line in lines:
        try:
            row = _given(store, number, csv_file.filled(number, line, columns))
        except ImportRefusedError as error:
            findings += error.findings
        else:
            first = earlier.setdefault((row.key, row.kind), number)
            if first != number:
                reason = f"même dossier et même type qu'à la ligne {first}"
                findings.append(Finding(number, None, reason))
            rows.append(row)
        steps.done(1)
    if findings:
        raise ImportRefusedError(*findings)
    return rows


def _given(store: Store, number: int, cells: dict[str, str]) -> _Given:
    try:
        row = Row.model_validate(cells)
    except ValidationError as error:
        raise ImportRefusedError(*csv_file.findings(number, error)) from None
    try:
        foreign = read_foreign(row.procede, row.empreinte)
    except BadDigestError as error:
        raise ImportRefusedError(Finding(number, "empreinte", str(error))) from None
    if row.cree_le is not None and row.cree_le > store.clock():
        raise ImportRefusedError(Finding(number, "cree_le", "date à venir"))
    content = "\x1f".join([row.caisse, row.numero, row.type, row.procede, row.empreinte])
    return _Given(
        line=number,
        id=UUID(bytes=store.keys.index("taken-over", content)[:16]),
        key=Key(row.caisse, row.numero),
        kind=row.type,
        foreign=foreign,
        created_at=row.cree_le,
        provisional=row.provisoire is not None,
    )


# The rows of the store


def _batches(values: Sequence[T]) -> Iterator[Sequence[T]]:
    return (values[start : start + BATCH] for start in range(0, len(values), BATCH))


def _known(store: Store, rows: Sequence[_Given]) -> set[UUID]:
    """Find the lines taken over before; ImportRefusedError for those of no open dossier.

    Before anything is hashed: that takes hours for a whole caisse.
    """
    known: set[UUID] = set()
    findings: list[Finding] = []
    with store.database.read() as transaction:
        for batch in _batches(rows):
            ids = [row.id for row in batch]
            known.update(transaction.scalars(select(Credential.id).where(Credential.id.in_(ids))))
            found = transaction.execute(
                select(Account.caisse, Account.number).where(
                    Account.caisse.in_({row.key.caisse for row in batch}),
                    Account.number.in_({row.key.number for row in batch}),
                    Account.closed_at.is_(None),
                )
            )
            keys = {Key(*account) for account in found}
            findings += [_unknown(row) for row in batch if row.key not in keys]
    if findings:
        raise ImportRefusedError(*findings)
    return known


def _unknown(row: _Given) -> Finding:
    return Finding(row.line, "numero", "il n'y a pas de tel dossier ouvert")


def _hash(store: Store, rows: Sequence[_Given], steps: _Steps) -> list[str]:
    """Make the hashes ours, on every core."""
    hashes = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for hashed in pool.map(store.hasher.take_over, [row.foreign for row in rows]):
            hashes.append(hashed)
            steps.done(1)
    return hashes


def _store(store: Store, rows: Sequence[_Given], hashes: Sequence[str], steps: _Steps) -> int:
    """Store what nothing of ours is newer than; give how many lines that is."""
    now = store.clock()
    taken: list[UUID] = []
    with store.database.write() as transaction:
        # Two imports at once would lock each other's dossiers.
        store.database.lock(transaction, store.keys.index("lock", "passwords"))
        for row, hashed in zip(rows, hashes, strict=True):
            account = life_cycle.locked(transaction, row.key)
            if account is None:  # closed since it was looked up
                raise ImportRefusedError(_unknown(row))
            if life_cycle.take_over(store, transaction, account.id, row.taken_over(hashed)):
                taken.append(account.id)
                audit.note(
                    transaction, "password-imported", now, ADMIN, account.id, subject_id=row.id
                )
            steps.done(1)
        for batch in _batches(taken):
            feed.tell(store, transaction, *batch)
    return len(taken)
