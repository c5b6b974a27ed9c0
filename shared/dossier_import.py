"""Takes in what the information system drops of dossiers: JSON Lines (docs/dossiers.md).

Every good line comes in, in batches; a bad one is told by its number, a field and a rule, never by
what it holds. Newer data is never replaced by older: a file may come twice, and an import that was
killed is run again.
"""

import os
import stat
from codecs import BOM_UTF8
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple
from uuid import UUID

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from sqlalchemy import Connection, select

from shared import audit, dossier_store, processing_delays
from shared.api.bodies import strict_json
from shared.api.problems import ProblemError
from shared.dossier_data import SECTIONS, DelaysLine, DossierLine, Reading
from shared.dossier_store import ToKeep
from shared.errors import SettingsError
from shared.models import Account
from shared.origin import ADMIN
from shared.progress import Progress, unheard
from shared.reasons import REASONS, reason_in_french
from shared.store import Store

BATCH = 200  # lines: what waits for the turn to write on SQLite waits shortly
MOST_LINE_BYTES = 65_536
MOST_FINDINGS = 1000  # that are told; the others are counted
NAME = "*.jsonl"
DONE = "done"
SETTLED_SECONDS = 2
NOT_JSON = "pas un objet JSON en UTF-8"

# Of pydantic's findings, those whose text is not ours and needs another one.
OWN_REASONS: Final = {
    "json_invalid": NOT_JSON,
    "string_pattern_mismatch": "forme inattendue",
    "string_too_long": "texte trop long",
    "string_type": "texte attendu",
    "tuple_type": "liste attendue",
    "less_than_equal": "valeur trop grande",
    "greater_than_equal": "valeur trop petite",
    "model_type": "objet attendu",
    "date_type": "date attendue sous la forme AAAA-MM-JJ",
    "date_parsing": "date attendue sous la forme AAAA-MM-JJ",
    "date_from_datetime_parsing": "date attendue sous la forme AAAA-MM-JJ",
    "datetime_type": "date et heure attendues, par exemple 2026-11-02T04:00:00+01:00",
    "timezone_aware": "décalage horaire attendu, par exemple +01:00",
}


@dataclass(frozen=True)
class Finding:
    """Why a line is refused, in French; it never quotes what the line holds."""

    line: int
    field: str
    reason: str

    def __str__(self) -> str:
        where = f", champ {self.field}" if self.field else ""
        return f"ligne {self.line}{where} : {self.reason}"


@dataclass
class Imported:
    """How many lines brought something new, brought nothing, were of closed dossiers, were bad."""

    new: int = 0
    known: int = 0
    closed: int = 0
    bad: int = 0
    findings: list[Finding] = field(default_factory=list)

    def count(self, lines: Iterable[bool]) -> None:
        """Count good lines: did each bring something new?"""
        for is_new in lines:
            self.new += is_new
            self.known += not is_new

    def refuse(self, *findings: Finding) -> None:
        """Count a bad line, and tell why unless that was told of too many."""
        self.bad += 1
        self.findings += findings[: MOST_FINDINGS - len(self.findings)]


class _Account(NamedTuple):
    """A dossier that lines are about."""

    id: UUID
    caisse: str
    number: str
    closed_at: datetime | None


@dataclass(frozen=True, repr=False)
class _Read:
    """A line that is right in itself."""

    number: int
    told: DossierLine | DelaysLine


def files_of(path: Path, now: float) -> list[Path]:
    """Give the files of a folder that are whole, in the order of their names; or the file itself.

    A file is whole once it has not changed for two seconds: whoever writes should rename it in.
    SettingsError if there is nothing that can be read.
    """
    try:
        if not path.is_dir():
            return [path]
        found = sorted(file for file in path.glob(NAME) if _is_ours(file))
        return [file for file in found if abs(now - file.stat().st_mtime) >= SETTLED_SECONDS]
    except OSError as error:
        raise SettingsError(f"{path}: ne peut pas être lu : {error.strerror}") from None


def _is_ours(file: Path) -> bool:
    """Say whether it is a plain file, and not one that somebody still writes under that name."""
    return not file.name.startswith(".") and file.is_file() and not file.is_symlink()


def put_away(file: Path) -> None:
    """Move a file of a folder that was taken in to `done/`."""
    done = file.parent / DONE
    done.mkdir(mode=0o700, exist_ok=True)
    os.replace(file, done / file.name)


def import_file(store: Store, file: Path, report: Progress = unheard) -> Imported:
    """Take in every good line; SettingsError if the file cannot be read."""
    result = Imported()
    try:
        with file.open("rb") as opened:
            status = os.fstat(opened.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise SettingsError(f"{file}: n'est pas un fichier ordinaire")
            read = _read(store, opened, result)
            while batch := list(islice(read, BATCH)):
                _keep(store, batch, result)
                report(opened.tell(), status.st_size)
    except OSError as error:
        raise SettingsError(f"{file}: ne peut pas être lu : {error.strerror}") from None
    report(status.st_size, status.st_size)
    result.findings.sort(key=lambda finding: finding.line)
    with store.database.write() as transaction:
        counts = f"new:{result.new} known:{result.known} closed:{result.closed} bad:{result.bad}"
        audit.note(transaction, "dossiers-imported", store.clock(), ADMIN, None, actor=counts)
    return result


# The lines of the file


def _read(store: Store, opened: BinaryIO, result: Imported) -> Iterator[_Read]:
    """Give the lines that are right; what is wrong with the others goes to `result`."""
    for number, line in _lines(opened):
        if line is None:
            result.refuse(Finding(number, "", f"plus de {MOST_LINE_BYTES} octets"))
        elif line.strip():
            try:
                yield _Read(number, _told(store, line))
            except ProblemError:
                result.refuse(Finding(number, "", NOT_JSON))
            except ValidationError as error:
                faults = error.errors(include_input=False, include_url=False)
                result.refuse(*(_finding(number, fault) for fault in faults))


def _lines(opened: BinaryIO) -> Iterator[tuple[int, bytes | None]]:
    """Give every line with its number; None for one that is too long, which is passed over."""
    number, whole = 0, True
    while part := opened.readline(MOST_LINE_BYTES + 1):
        began, whole = whole, part.endswith(b"\n")
        if not began:
            continue
        number += 1
        too_long = len(part) > MOST_LINE_BYTES
        yield number, None if too_long else part.removeprefix(BOM_UTF8) if number == 1 else part


def _told(store: Store, line: bytes) -> DossierLine | DelaysLine:
    """Read a line: of a dossier, or of a caisse's delays."""
    value = strict_json(line)
    model = DelaysLine if isinstance(value, dict) and "delays" in value else DossierLine
    # Once more, as JSON: a date is a text there, and no number becomes one.
    return model.model_validate_json(line, context=Reading(store.rules.dossier, store.clock()))


def _finding(number: int, fault: ErrorDetails) -> Finding:
    """Say what is wrong where; a name that is not the schema's is the line's own: left out."""
    kind, place = fault["type"], fault["loc"]
    if kind == "extra_forbidden":
        place = place[:-1]
    return Finding(number, ".".join(map(str, place)), _reason(fault))


def _reason(fault: ErrorDetails) -> str:
    kind = fault["type"]
    if kind == "refused":  # by a check of ours
        return fault["msg"]
    if kind in OWN_REASONS:
        return OWN_REASONS[kind]
    return reason_in_french(fault) if kind in REASONS else "valeur impossible"


# The rows of the store


def _keep(store: Store, batch: list[_Read], result: Imported) -> None:
    """Keep a batch, in one transaction."""
    dossiers = {one.number: one.told for one in batch if isinstance(one.told, DossierLine)}
    delays = [one.told for one in batch if isinstance(one.told, DelaysLine)]
    with store.database.begin() as transaction:
        dossier_store.lock(store, transaction)
        accounts = _accounts(transaction, dossiers.values())
        told = [
            section
            for line in dossiers.values()
            if (account := accounts.get((line.caisse, line.number))) and account.closed_at is None
            for section in _sections(account.id, line)
        ]
        new = dossier_store.keep(store, transaction, told)
        caisses = processing_delays.keep(store, transaction, delays)
    result.count(line.caisse in caisses for line in delays)
    for number, line in dossiers.items():
        account = accounts.get((line.caisse, line.number))
        if account is None:
            result.refuse(Finding(number, "number", "dossier inconnu"))
        elif account.closed_at is not None:
            result.closed += 1
        else:
            result.count([account.id in new])


def _accounts(
    transaction: Connection, lines: Collection[DossierLine]
) -> dict[tuple[str, str], _Account]:
    """Look up the lines' dossiers (D01)."""
    # SQLite scans the whole table for `(caisse, number) IN …`; so it uses the index.
    rows = transaction.execute(
        select(Account.id, Account.caisse, Account.number, Account.closed_at).where(
            Account.caisse.in_({line.caisse for line in lines}),
            Account.number.in_({line.number for line in lines}),
        )
    )
    return {(row.caisse, row.number): _Account(*row) for row in rows}


def _sections(account_id: UUID, line: DossierLine) -> Iterator[ToKeep]:
    """Give what a line says something of."""
    for section in SECTIONS:
        content = getattr(line, section.name)
        if content is not None:
            yield ToKeep(account_id, section, line.as_of, content)
