"""The texts of our messages, read from one TOML file and checked before anything is sent (D14)."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Formatter
from typing import Any, Self

from shared import notices, settings_file
from shared.errors import SettingsError
from shared.outbox import TemplateError
from shared.resets import Template
from sms import gsm7

DEFAULT_FILE = Path(__file__).with_name("templates.toml")

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


@dataclass(frozen=True)
class _Text:
    sender: str
    text: str

    def fill(self, variables: Mapping[str, str]) -> str:
        return self.text.format_map({name: _written(value) for name, value in variables.items()})


class Templates:
    """Every text of the service."""

    def __init__(self, texts: Mapping[str, _Text]) -> None:
        self._texts = texts

    @classmethod
    def load(cls, path: Path = DEFAULT_FILE) -> Self:
        """Read the file; SettingsError « file: key: reason » for the first fault."""
        table = settings_file.read(path)
        for finding in _findings(table):
            raise SettingsError(f"{path}: {finding}")
        return cls({name: _Text(**table[name]) for name in LONGEST})

    def render(self, template: str, variables: Mapping[str, str]) -> str:
        """Fill a text; this is the outbox's `Render`."""
        try:
            return self._text(template).fill(variables)
        except KeyError:
            raise TemplateError(f"template {template}: the message lacks a variable") from None

    def sender(self, template: str) -> str:
        """Give what the telephone shows as the origin of such a message; TemplateError."""
        return self._text(template).sender

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


def _written(value: str) -> str:
    """Write digits in groups, as people read and key them, the rest in GSM-7 (D14).

    1234 5678, 123 456.
    """
    if not (value.isascii() and value.isdecimal()):
        return gsm7.transliterate(value)
    size = 4 if len(value) % 4 == 0 else 3
    return " ".join(value[at : at + size] for at in range(0, len(value), size))


def _findings(table: Mapping[str, Any]) -> Iterator[str]:
    for name in table.keys() - LONGEST.keys():
        yield f"{name}: modèle inconnu ; il y a {', '.join(LONGEST)}"
    for name in LONGEST:
        match table.get(name):
            case {"sender": str(sender), "text": str(text), **others} if not others:
                yield from (f"{name}.{finding}" for finding in _of_sender(sender))
                yield from (f"{name}.text: {finding}" for finding in _of_text(name, text))
            case _:
                yield f"{name}: il faut sender et text, deux textes entre guillemets, rien d'autre"


def _of_sender(sender: str) -> Iterator[str]:
    if not SENDER.fullmatch(sender):
        yield "sender: il faut 1 à 11 lettres sans accent ou chiffres"


def _of_text(name: str, text: str) -> Iterator[str]:
    try:
        parts = list(Formatter().parse(text))
    except ValueError:
        yield "une accolade manque ; une variable s'écrit {nom}"
        return
    found = {field for _, field, _, _ in parts if field is not None}
    if found != LONGEST[name].keys() or any(spec or how for _, _, spec, how in parts):
        yield f"il faut les variables {_braced(LONGEST[name])}, toutes, telles quelles et seules"
        return
    yield from _of_filled(_Text("", text).fill(LONGEST[name]))


def _of_filled(text: str) -> Iterator[str]:
    foreign = gsm7.foreign(text)
    if foreign:
        yield f"hors de l'alphabet GSM-7 : {' '.join(foreign)}"
    elif (length := len(gsm7.encode(text))) > gsm7.ALONE:
        yield f"{length} septets au plus long ; un SMS en contient {gsm7.ALONE}"
    if LINK.search(text):
        yield "pas d'adresse sur laquelle cliquer ; « caf.fr » seul est permis"


def _braced(names: Mapping[str, str]) -> str:
    return ", ".join(f"{{{name}}}" for name in names)
