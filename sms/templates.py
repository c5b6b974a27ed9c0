"""The texts of our messages, read from one TOML file and checked before anything is sent (D14)."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Formatter
from typing import Any, Self

from shared import notices, settings_file
from shared.errors import SettingsError
from shared.models import Route
from shared.outbox import TemplateError
from shared.resets import Template
from sms import gsm7

DEFAULT_FILE = Path(__file__).with_name("templates.toml")

LONGEST_SUBJECT = 60  # as much as mail programs show
SENDER = re.compile(r"[A-Za-z0-9]{1,11}")
# Whatever looks like a domain a telephone makes one to click; caf.fr alone leads nowhere else.
LINK = re.compile(r"(?i)://|\bcaf\.fr/|\b(?!caf\.fr\b)[\w-]+\.[^\W\d_]{2,}")

# What each template is filled with, at its longest.
LONGEST: Mapping[str, Mapping[str, str]] = {
    Template.PASSWORD: {"password": "00000000"},
    Template.PASSWORD_OLD_MOBILE: {"password": "00000000"},
    notices.Template.CODE: {"code": "000000", "minutes": "00"},
    notices.Template.CODE_OLD_MOBILE: {"code": "000000", "minutes": "00"},
    notices.Template.ACCOUNT_CREATED: {},
    notices.Template.PROVISIONAL: {"digits": "00000000"},
}

BY_MAIL = (
    notices.Template.CODE,
    notices.Template.ACCOUNT_CREATED,
    notices.Template.PROVISIONAL,
)
"""Templates that go by mail too, and say it at more length there (R13, R20, R23)."""

WRITE: Mapping[Route, Callable[[str], str]] = {Route.SMS: gsm7.transliterate, Route.MAIL: str}
"""How what is no number is written: a mail has every letter."""


@dataclass(frozen=True)
class _Text:
    sender: str
    text: str
    subject: str = ""  # of a mail

    def fill(self, variables: Mapping[str, str], route: Route) -> str:
        write = WRITE[route]
        return self.text.format_map(
            {name: _in_groups(value) or write(value) for name, value in variables.items()}
        )


class Templates:
    """Every text of the service that goes by one route."""

    def __init__(self, texts: Mapping[str, _Text], route: Route) -> None:
        self._texts = texts
        self._route = route

    @classmethod
    def load(cls, path: Path = DEFAULT_FILE, route: Route = Route.SMS) -> Self:
        """Read the file; SettingsError « file: key: reason » for the first fault."""
        table = settings_file.read(path)
        for finding in _findings(table):
            raise SettingsError(f"{path}: {finding}")
        names = BY_MAIL if route is Route.MAIL else LONGEST
        return cls({name: _text(table[name], route) for name in names}, route)

    def render(self, template: str, variables: Mapping[str, str]) -> str:
        """Fill a text; this is the outbox's `Render`."""
        try:
            return self._text(template).fill(variables, self._route)
        except KeyError:
            raise TemplateError(f"template {template}: the message lacks a variable") from None

    def sender(self, template: str) -> str:
        """Give what is shown as the origin of such a message; TemplateError."""
        return self._text(template).sender

    def subject(self, template: str) -> str:
        """Give the subject of such a mail, always the same; "" of an SMS; TemplateError."""
        return self._text(template).subject

    def _text(self, template: str) -> _Text:
        if template not in self._texts:  # queued by a newer version
            raise TemplateError(f"template {template}: unknown")
        return self._texts[template]


def check(path: Path = DEFAULT_FILE) -> list[str]:
    """Give every fault of the file, « file: key: reason » each."""
    try:
        return [f"{path}: {finding}" for finding in _findings(settings_file.read(path))]
    except SettingsError as error:
        return [str(error)]


def _text(table: Mapping[str, Any], route: Route) -> _Text:
    head = table["mail"] if route is Route.MAIL else {"text": table["text"]}
    return _Text(sender=table["sender"], **head)


def _in_groups(value: str) -> str | None:
    """Write digits in groups, as people read and key them (D14): 1234 5678, 123 456.

    None for anything else.
    """
    if not (value.isascii() and value.isdecimal()):
        return None
    size = 4 if len(value) % 4 == 0 else 3
    return " ".join(value[at : at + size] for at in range(0, len(value), size))


def _findings(table: Mapping[str, Any]) -> Iterator[str]:
    for name in table.keys() - LONGEST.keys():
        yield f"{name}: modèle inconnu ; il y a {', '.join(LONGEST)}"
    for name in LONGEST:
        match table.get(name):
            case {"sender": str(sender), "text": str(text), **others} if others.keys() <= {"mail"}:
                yield from (f"{name}.{finding}" for finding in _of_sender(sender))
                yield from (f"{name}.text: {finding}" for finding in _of_text(name, text, _of_sms))
                yield from _of_mail(name, others.get("mail"))
            case _:
                yield f"{name}: il faut sender et text, deux textes entre guillemets, rien d'autre"


def _of_mail(name: str, mail: object) -> Iterator[str]:
    """Check what a template says by mail, and that it says something where it goes by mail."""
    match mail:
        case None if name not in BY_MAIL:
            pass
        case {"subject": str(subject), "text": str(text), **others} if not others:
            if name not in BY_MAIL:
                yield f"{name}.mail: ce modèle ne part pas par courriel"
            yield from (f"{name}.mail.subject: {finding}" for finding in _of_subject(subject))
            yield from (f"{name}.mail.text: {finding}" for finding in _of_text(name, text, _links))
        case _:
            yield f"{name}.mail: il faut subject et text, deux textes entre guillemets"


def _of_sender(sender: str) -> Iterator[str]:
    if not SENDER.fullmatch(sender):
        yield "sender: il faut 1 à 11 lettres sans accent ou chiffres"


def _of_subject(subject: str) -> Iterator[str]:
    """Check a subject: it has no variable, so that nothing from outside gets into a header."""
    if not (subject.isprintable() and 0 < len(subject) <= LONGEST_SUBJECT):
        yield f"il faut une ligne de 1 à {LONGEST_SUBJECT} caractères"
    if "{" in subject or "}" in subject:
        yield "un objet n'a pas de variable"
    yield from _links(subject)


def _of_text(name: str, text: str, of_filled: Callable[[str], Iterator[str]]) -> Iterator[str]:
    try:
        parts = list(Formatter().parse(text))
    except ValueError:
        yield "une accolade manque ; une variable s'écrit {nom}"
        return
    found = {field for _, field, _, _ in parts if field is not None}
    if found != LONGEST[name].keys() or any(spec or how for _, _, spec, how in parts):
        yield f"il faut les variables {_braced(LONGEST[name])}, toutes, telles quelles et seules"
        return
    yield from of_filled(_Text("", text).fill(LONGEST[name], Route.SMS))


def _of_sms(text: str) -> Iterator[str]:
    foreign = gsm7.foreign(text)
    if foreign:
        yield f"hors de l'alphabet GSM-7 : {' '.join(foreign)}"
    elif (length := len(gsm7.encode(text))) > gsm7.ALONE:
        yield f"{length} septets au plus long ; un SMS en contient {gsm7.ALONE}"
    yield from _links(text)


def _links(text: str) -> Iterator[str]:
    if LINK.search(text):
        yield "pas d'adresse sur laquelle cliquer ; « caf.fr » seul est permis"


def _braced(names: Mapping[str, str]) -> str:
    return ", ".join(f"{{{name}}}" for name in names)
