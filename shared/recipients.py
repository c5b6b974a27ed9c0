"""The recipients of a campaign: from a file, read line by line, or one at a time (R24).

The columns are `mobile` or `mail`, for a mail `departement` if one likes, and what fills the
template. Cells are parted by « ; » or « , »; findings never quote one.
"""

import re
from codecs import BOM_UTF8
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from pydantic_core import PydanticCustomError

from shared import campaign_hours, csv_file
from shared.campaigns import Plan, Recipient, Texts
from shared.client_messages import Misfit
from shared.contacts import Contact, normal_mail
from shared.csv_file import Finding, ImportRefusedError
from shared.errors import SettingsError
from shared.identifiers import e164, is_mail, takes_sms
from shared.models import Route
from shared.progress import Progress, unheard

MOST_FINDINGS = 50  # of a file: then the rest is not read
REPORTED = 1000  # lines
COLUMN: Final[Mapping[Route, str]] = {Route.SMS: "mobile", Route.MAIL: "mail"}
DEPARTMENT = "departement"
DEPARTMENT_CODE = re.compile(r"0[1-9]|[1-8][0-9]|9[0-5]|2A|2B|97[1-6]")

REASONS: Final[Mapping[str, str]] = {
    "missing": "valeur obligatoire",
    "too_long": "plus longue que le modèle ne le permet",
    "link": "pas d'adresse sur laquelle cliquer",
    "control_character": "caractère interdit",
    "not_a_french_mobile": "mobile français attendu",
    "not_a_mail_address": "adresse électronique attendue",
    "not_a_department": "code de département inconnu",
}


@dataclass(frozen=True)
class Given:
    """A recipient as it was given; repr would show it."""

    to: str
    department: str | None
    variables: Mapping[str, str]


def read_one(texts: Texts, plan: Plan, given: Given) -> Recipient | list[Misfit]:
    """Give a recipient, or why there can be none."""
    contact = _contact(plan.route, given.to)
    misfits = [contact] if isinstance(contact, Misfit) else []
    if given.department is not None and not DEPARTMENT_CODE.fullmatch(given.department):
        misfits.append(Misfit("department", "not_a_department"))
    for name, value in given.variables.items():
        if not value.isprintable():
            misfits.append(Misfit(f"variables.{name}", "control_character"))
    if plan.text is None and not misfits:
        misfits += texts.judge(plan.template, given.variables, plan.route)
    elif given.variables and not misfits:
        misfits.append(Misfit("variables", "extra_forbidden"))
    if misfits or isinstance(contact, Misfit):
        return misfits
    return Recipient(contact, _zone(contact, given.department), given.variables)


def read_file(
    file: Path,
    texts: Texts,
    plan: Plan,
    findings: list[Finding],
    report: Progress = unheard,
) -> Iterator[Recipient]:
    """Give those of a file that are right; what is wrong with the others goes to `findings`.

    SettingsError if it cannot be read.
    """
    try:
        with file.open("rb") as opened:
            lines = _lines(opened, file.stat().st_size, report)
            yield from _read(lines, texts, plan, findings)
    except OSError as error:
        raise SettingsError(f"{file}: ne peut pas être lu : {error.strerror}") from None
    except ImportRefusedError as error:  # of the file as a whole
        findings += error.findings


def _read(
    lines: Iterator[csv_file.Line], texts: Texts, plan: Plan, findings: list[Finding]
) -> Iterator[Recipient]:
    columns = [COLUMN[plan.route], *texts.variables(plan)]
    optional = [DEPARTMENT] if plan.route is Route.MAIL else []
    number, first = next(lines, (1, b""))
    if not first.strip():
        raise csv_file.line_refused(number, "fichier vide")
    delimiter = ";" if b";" in first or b"," not in first else ","
    header = csv_file.header(number, first, columns, optional, delimiter)
    for number, line in lines:
        if not line.strip(b" ;,\r"):
            continue
        try:
            cells = csv_file.filled(number, line, header, delimiter)
            yield _recipient(number, texts, plan, cells)
        except ImportRefusedError as error:
            findings += error.findings
        if len(findings) >= MOST_FINDINGS:
            findings.append(Finding(number, None, "trop d'anomalies, la suite n'est pas lue"))
            return


def _recipient(number: int, texts: Texts, plan: Plan, cells: Mapping[str, str]) -> Recipient:
    """Read the recipient of a line; ImportRefusedError."""
    try:
        one = read_one(texts, plan, _given(cells, plan.route))
    except PydanticCustomError as error:
        raise csv_file.line_refused(number, error.message()) from None
    if isinstance(one, Recipient):
        return one
    raise ImportRefusedError(*(_finding(number, misfit, plan.route) for misfit in one))


def _lines(opened: BinaryIO, size: int, report: Progress) -> Iterator[csv_file.Line]:
    """Give the lines, none longer than may be; what a longer one goes on with is not read."""
    number = 0
    while line := opened.readline(csv_file.MAX_LINE_BYTES + 1):
        number += 1
        if len(line) > csv_file.MAX_LINE_BYTES:
            reason = f"plus de {csv_file.MAX_LINE_BYTES} octets, la suite n'est pas lue"
            raise csv_file.line_refused(number, reason)
        if number == 1:
            yield number, line.removeprefix(BOM_UTF8).rstrip(b"\n")
        else:
            yield number, line.rstrip(b"\n")
        if number % REPORTED == 0:
            report(opened.tell(), size)
    report(size, size)


def _given(cells: Mapping[str, str], route: Route) -> Given:
    """Sort the cells of a line."""
    variables = dict(cells)
    to, department = variables.pop(COLUMN[route], ""), None
    if route is Route.MAIL:
        department = variables.pop(DEPARTMENT, None)
    for value in variables.values():
        csv_file.no_formula(value)
    return Given(to, department, variables)


def _contact(route: Route, to: str) -> Contact | Misfit:
    if not to:
        return Misfit("to", "missing")
    if route is Route.MAIL:
        if not is_mail(to):
            return Misfit("to", "not_a_mail_address")
        return Contact(route, normal_mail(to))
    number = e164(to)
    if number is None or not takes_sms(number):
        return Misfit("to", "not_a_french_mobile")
    return Contact(route, number)


def _zone(contact: Contact, department: str | None) -> str:
    if contact.route is Route.SMS:
        return campaign_hours.zone_of_number(contact.value)
    return campaign_hours.zone_of_department(department or "")


def _finding(number: int, misfit: Misfit, route: Route) -> Finding:
    named = {"to": COLUMN[route], "department": DEPARTMENT, "variables": None}
    column = named.get(misfit.where, misfit.where.removeprefix("variables."))
    return Finding(number, column, REASONS[misfit.reason])
