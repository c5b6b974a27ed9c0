"""CSV files that others write: read line by line, with findings that never quote a cell.

A line of the file is a line of the table: a cell cannot hold a line break, so that a quote left
open spoils one line and not the rest of the file.
"""

import csv
import re
import unicodedata
from codecs import BOM_UTF8
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from shared.errors import SettingsError, StoreError

MAX_LINE_BYTES = 16_384
DELIMITER = ";"

Line = tuple[int, bytes]
"""The number of a line and what it holds."""


@dataclass(frozen=True)
class Finding:
    """Why a line is refused, in French; it never quotes what the line holds."""

    line: int
    column: str | None
    reason: str

    def __str__(self) -> str:
        column = f", colonne {self.column}" if self.column else ""
        return f"ligne {self.line}{column} : {self.reason}"


class ImportRefusedError(StoreError):
    """The file has faults, all of them in `findings`: nothing was stored."""

    def __init__(self, *findings: Finding) -> None:
        super().__init__(f"fichier refusé, {len(findings)} anomalie(s) ; {findings[0]}")
        self.findings = list(findings)


class Cells(BaseModel):
    """One line of a file, field by column; an empty cell is an absent field."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    def __repr_args__(self) -> list[tuple[str | None, object]]:
        """Hide every value from repr and str."""
        return []


def read(file: Path, columns: Sequence[str]) -> tuple[list[str], list[Line]]:
    """Give the columns in the file's order, and the lines that are not blank with their numbers.

    ImportRefusedError for a header that is not these columns, SettingsError if the file cannot be
    read.
    """
    try:
        content = file.read_bytes().removeprefix(BOM_UTF8)
    except OSError as error:
        raise SettingsError(f"{file}: ne peut pas être lu : {error.strerror}") from None
    if not content.strip():
        raise line_refused(1, "fichier vide")
    first, *lines = (
        (number, line)
        for number, line in enumerate(content.split(b"\n"), start=1)
        if number == 1 or line.strip(b" ;\r")
    )
    return header(*first, columns), lines


def header(
    number: int,
    line: bytes,
    columns: Sequence[str],
    optional: Collection[str] = (),
    delimiter: str = DELIMITER,
) -> list[str]:
    """Give the columns' names; one that is not ours is not quoted, it could be a person's data."""
    cells = _cells(number, line, delimiter)
    absent = ", ".join(name for name in columns if name not in cells)
    known = [*columns, *optional]
    faults = [
        *(f"colonne {at} inconnue" for at, cell in enumerate(cells, 1) if cell not in known),
        *(f"colonne {name} en double" for name in known if cells.count(name) > 1),
        *([f"il manque {absent}"] if absent else []),
    ]
    if faults:
        raise ImportRefusedError(*(Finding(number, None, f"en-tête : {why}") for why in faults))
    return cells


def filled(
    number: int, line: bytes, columns: Sequence[str], delimiter: str = DELIMITER
) -> dict[str, str]:
    """Give the cells of a line that are not empty, by column; ImportRefusedError."""
    cells = _cells(number, line, delimiter)
    if len(cells) != len(columns):
        raise line_refused(number, f"{len(cells)} colonnes au lieu de {len(columns)}")
    return {column: cell for column, cell in zip(columns, cells, strict=True) if cell}


def line_refused(number: int, reason: str) -> ImportRefusedError:
    """Give the error for a line as a whole."""
    return ImportRefusedError(Finding(number, None, reason))


def refusal(reason: str) -> PydanticCustomError:
    """Give the error for a cell, raised by what checks it: why, in French."""
    return PydanticCustomError("refused", reason)


def matching(pattern: str | re.Pattern[str], reason: str) -> BeforeValidator:
    """Give the check of a cell that has to match as a whole."""

    def check(cell: str) -> str:
        if re.fullmatch(pattern, cell) is None:
            raise refusal(reason)
        return cell

    return BeforeValidator(check)


def findings(number: int, error: ValidationError) -> list[Finding]:
    """Say what a model found wrong with the cells of a line."""
    return [
        Finding(number, str(details["loc"][0]), _reason_of(details))
        for details in error.errors(include_input=False, include_url=False)
    ]


def _reason_of(details: ErrorDetails) -> str:
    """Say in French what a model found wrong with a cell."""
    match details["type"]:
        case "missing":
            return "valeur obligatoire"
        case "string_too_long":
            return f"plus de {details['ctx']['max_length']} caractères"
        case _:
            return details["msg"]


def no_formula(cell: str) -> str:
    """Refuse what a spreadsheet would run when the text is exported again."""
    if cell.startswith(("=", "+", "-", "@")):
        raise refusal("ne doit pas commencer par =, +, - ou @")
    return cell


def _cells(number: int, line: bytes, delimiter: str) -> list[str]:
    if len(line) > MAX_LINE_BYTES:
        raise line_refused(number, f"plus de {MAX_LINE_BYTES} octets")
    try:
        cells = next(csv.reader([line.decode()], delimiter=delimiter, strict=True))
    except UnicodeDecodeError:
        raise line_refused(number, "n'est pas en UTF-8") from None
    except csv.Error:
        reason = "guillemet mal placé ou saut de ligne dans une cellule"
        raise line_refused(number, reason) from None
    return [_tidy(cell) for cell in cells]


def _tidy(cell: str) -> str:
    """Give the cell in composed characters, with plain spaces and none around it."""
    spaced = cell.replace("\N{NO-BREAK SPACE}", " ").replace("\N{NARROW NO-BREAK SPACE}", " ")
    return unicodedata.normalize("NFC", spaced).strip(" ")
