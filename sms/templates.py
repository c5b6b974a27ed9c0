"""The texts of our messages, read from one TOML file and checked before anything is sent (D14)."""

import hashlib
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from string import Formatter
from typing import Any, Self

from shared import notices, settings_file
from shared.client_messages import Misfit
from shared.errors import SettingsError
from shared.inbound import TEMPLATE as INBOUND
from shared.inbound import Keyword
from shared.models import Route
from shared.outbox import Rendered, TemplateError
from shared.resets import Template
from sms import gsm7

DEFAULT_FILE = Path(__file__).with_name("templates.toml")

VERSION_DIGITS = 8
LONGEST_SUBJECT = 60  # as much as mail programs show
SENDER = re.compile(r"[A-Za-z0-9]{1,11}")
NUMBER = re.compile(r"[1-9][0-9]{2,14}")  # a short code, or an international number without its +
# Whatever looks like a domain a telephone makes one to click; caf.fr alone leads nowhere else.
LINK = re.compile(r"(?i)://|\bcaf\.fr/|(?<![\w-])(?!caf\.fr\b)[\w-]+\.[^\W\d_]{2,}")

NOTICE = "notice."  # begins the names of templates of an installation's own: API clients' messages
NOTICE_NAME = re.compile(r"[a-z][a-z0-9-]{0,39}")
VARIABLE = re.compile(r"[a-z][a-z0-9_]{0,39}")

# What each template of the store's is filled with, at its longest.
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
    """What a template says by one route."""

    route: Route
    sender: str
    text: str
    longest: Mapping[str, str]  # what it is filled with, at its longest
    subject: str = ""  # of a mail

    @cached_property
    def version(self) -> str:
        """Name what it says: the same name for the same words, in whatever file."""
        says = "\0".join([self.sender, self.subject, self.text])
        return hashlib.sha256(says.encode()).hexdigest()[:VERSION_DIGITS]

    def fill(self, variables: Mapping[str, str]) -> str:
        return self.text.format_map(
            {name: _written(value, self.route) for name, value in variables.items()}
        )

    def misfits(self, variables: Mapping[str, str]) -> Iterator[Misfit]:
        """Say why an SMS can't be filled with these: D14 holds whatever a client gives."""
        if variables.keys() - self.longest.keys():
            yield Misfit("variables", "extra_forbidden")
        for name, longest in self.longest.items():
            if name not in variables:
                yield Misfit(f"variables.{name}", "missing")
            elif _septets(variables[name]) > _septets(longest):
                yield Misfit(f"variables.{name}", "too_long")


class Templates:
    """Every text of the service that goes by one route."""

    def __init__(self, texts: Mapping[str, _Text]) -> None:
        self._texts = texts

    @classmethod
    def load(cls, path: Path = DEFAULT_FILE, route: Route = Route.SMS) -> Self:
        """Read the file; SettingsError « file: key: reason » for the first fault."""
        table = settings_file.read(path)
        for finding in _findings(table):
            raise SettingsError(f"{path}: {finding}")
        texts = {name: _read(name, one, route) for name, one in _by_name(table).items()}
        return cls({name: text for name, text in texts.items() if text is not None})

    @property
    def numbers(self) -> frozenset[str]:
        """Give the numbers where replies are read (D14)."""
        replies = (name for name in self._texts if name.startswith(INBOUND))
        return frozenset(self._texts[name].sender for name in replies)

    @property
    def longest(self) -> Mapping[str, Mapping[str, str]]:
        """Give every template with what fills it, at its longest."""
        return {name: text.longest for name, text in self._texts.items()}

    @property
    def senders(self) -> set[str]:
        """Give all that stands as the origin of a message."""
        return {text.sender for text in self._texts.values()}

    def render(self, template: str, variables: Mapping[str, str]) -> Rendered:
        """Fill a text; this is the outbox's `Render`."""
        text = self._text(template)
        try:
            return Rendered(text.fill(variables), text.version)
        except KeyError:
            raise TemplateError(f"template {template}: the message lacks a variable") from None

    def sender(self, template: str) -> str:
        """Give what is shown as the origin of such a message; TemplateError."""
        return self._text(template).sender

    def subject(self, template: str) -> str:
        """Give the subject of such a mail, always the same; "" of an SMS; TemplateError."""
        return self._text(template).subject

    def judge(self, template: str, variables: Mapping[str, str]) -> list[Misfit]:
        """Say why a client can't have such a message sent."""
        text = self._texts.get(template)
        if text is None or not template.startswith(NOTICE):
            return [Misfit("template", "unknown")]
        misfits = list(text.misfits(variables))
        if not misfits and LINK.search(text.fill(variables)):
            return [Misfit("variables", "link")]
        return misfits

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


def _written(value: str, route: Route) -> str:
    """Write digits in groups, as people read and key them (D14): 1234 5678, 123 456.

    Anything else as the route can carry it.
    """
    if not (value.isascii() and value.isdecimal()):
        return WRITE[route](value)
    size = 4 if len(value) % 4 == 0 else 3
    return " ".join(value[at : at + size] for at in range(0, len(value), size))


def _septets(value: str) -> int:
    """Say how long a value is in an SMS."""
    return len(gsm7.encode(_written(value, Route.SMS)))


def _by_name(table: Mapping[str, Any]) -> dict[str, Any]:
    """Give what stands in the file by whole names: [notice.rendez-vous] is one template."""
    by_name: dict[str, Any] = {}
    for name, one in table.items():
        match name, one:
            case "notice", dict(notices):
                by_name |= {NOTICE + own: notice for own, notice in notices.items()}
            case "inbound", dict(numbers):
                by_name |= _replies(numbers)
            case _:
                by_name[name] = one
    return by_name


def _replies(numbers: Mapping[str, Any]) -> dict[str, Any]:
    """Give what is answered at each number, by the whole name; it is the number that answers."""
    return {
        f"{INBOUND}{number}.{word}": {"sender": number, "text": text}
        for number, words in numbers.items()
        if isinstance(words, dict)
        for word, text in words.items()
    }


def _read(name: str, table: Any, route: Route) -> _Text | None:
    """Read what a template says by a route; None if nothing."""
    sms = _sms(name, table)
    return sms if sms is None or route is Route.SMS else _mail(sms, table.get("mail"))


def _sms(name: str, table: object) -> _Text | None:
    """Read what a template says by SMS; None if it has another shape."""
    match table:
        case {"sender": str(sender), "text": str(text), **others} if others.keys() <= {"mail"}:
            return _Text(Route.SMS, sender, text, LONGEST.get(name, {}))
        case {"variables": dict(longest), **others} if name not in LONGEST and _are_fit(longest):
            sms = _sms(name, others)
            return sms and replace(sms, longest=longest)
    return None


def _are_fit(longest: Mapping[str, object]) -> bool:
    return all(
        VARIABLE.fullmatch(name) and isinstance(value, str) and value
        for name, value in longest.items()
    )


def _mail(sms: _Text, mail: object) -> _Text | None:
    """Read what the same template says by mail; None if it has another shape."""
    match mail:
        case {"subject": str(subject), "text": str(text), **others} if not others:
            return replace(sms, route=Route.MAIL, text=text, subject=subject)
    return None


def _findings(table: Mapping[str, Any]) -> Iterator[str]:
    by_name = _by_name(table)
    inbound = table.get("inbound")
    numbers = inbound if isinstance(inbound, dict) else {}
    for number, words in numbers.items():
        yield from _of_number(number, words)
    for name in [one for one in by_name if one not in LONGEST and not one.startswith(INBOUND)]:
        if not name.startswith(NOTICE):
            yield f"{name}: modèle inconnu ; il y a {', '.join(LONGEST)}, et les vôtres, {NOTICE}…"
        elif not NOTICE_NAME.fullmatch(name.removeprefix(NOTICE)):
            yield f"{name}: un nom s'écrit en minuscules sans accent, chiffres et -"
        else:
            yield from _of_template(name, by_name[name], numbers)
    for name in LONGEST:
        yield from _of_template(name, by_name.get(name), numbers)


def _of_number(number: str, words: object) -> Iterator[str]:
    """Check a number where replies are read, and what it says to each word."""
    texts: dict[str, Any] = words if isinstance(words, dict) else {}
    if texts.keys() != set(Keyword) or not all(isinstance(text, str) for text in texts.values()):
        known = ", ".join(Keyword)
        yield f"{INBOUND}{number}: il faut {known}, des textes entre guillemets, rien d'autre"
        return
    for word, text in texts.items():
        said = _Text(Route.SMS, number, text, {})
        yield from (f"{INBOUND}{number}.{word}: {finding}" for finding in _of_text(said))
    if not NUMBER.fullmatch(number):
        yield f"{INBOUND}{number}: il faut un numéro court, ou international sans son +"


def _of_template(name: str, table: Any, numbers: Collection[str]) -> Iterator[str]:
    sms = _sms(name, table)
    if sms is not None:
        yield from (f"{name}.{finding}" for finding in _of_sender(sms.sender, numbers))
        yield from (f"{name}.text: {finding}" for finding in _of_text(sms))
        yield from _of_mail(name, sms, table.get("mail"))
    elif name in LONGEST:
        yield f"{name}: il faut sender et text, deux textes entre guillemets, rien d'autre"
    else:
        yield f'{name}: il faut sender, text et variables = {{ nom = "la plus longue valeur" }}'


def _of_mail(name: str, sms: _Text, table: object) -> Iterator[str]:
    """Check what a template says by mail, and that it says something where it goes by mail."""
    if name not in BY_MAIL and (table is None or not name.startswith(NOTICE)):
        if table is not None:
            yield f"{name}.mail: ce modèle ne part pas par courriel"
    elif mail := _mail(sms, table):
        yield from (f"{name}.mail.subject: {finding}" for finding in of_subject(mail.subject))
        yield from (f"{name}.mail.text: {finding}" for finding in _of_text(mail))
    else:
        yield f"{name}.mail: il faut subject et text, deux textes entre guillemets"


def _of_sender(sender: str, numbers: Collection[str]) -> Iterator[str]:
    """Check what a telephone shows as origin: a name, or a number where replies are read (D14)."""
    if sender in numbers:
        return
    if sender.isdecimal():
        yield "sender: un numéro où rien ne serait lu ; il lui faut [inbound.NUMÉRO]"
    elif not SENDER.fullmatch(sender):
        yield "sender: il faut 1 à 11 lettres sans accent ou chiffres"


def of_subject(subject: str) -> Iterator[str]:
    """Check a subject: it has no variable, so that nothing from outside gets into a header."""
    if not (subject.isprintable() and 0 < len(subject) <= LONGEST_SUBJECT):
        yield f"il faut une ligne de 1 à {LONGEST_SUBJECT} caractères"
    if "{" in subject or "}" in subject:
        yield "un objet n'a pas de variable"
    yield from _links(subject)


def _of_text(text: _Text) -> Iterator[str]:
    try:
        parts = list(Formatter().parse(text.text))
    except ValueError:
        yield "une accolade manque ; une variable s'écrit {nom}"
        return
    found = {field for _, field, _, _ in parts if field is not None}
    if found != text.longest.keys() or any(spec or how for _, _, spec, how in parts):
        yield f"il faut les variables {_braced(text.longest)}, toutes, telles quelles et seules"
        return
    filled = text.fill(text.longest)
    if text.route is Route.SMS:
        yield from _of_sms(filled)
    yield from _links(filled)


def _of_sms(text: str) -> Iterator[str]:
    foreign = gsm7.foreign(text)
    if foreign:
        yield f"hors de l'alphabet GSM-7 : {' '.join(foreign)}"
    elif (length := len(gsm7.encode(text))) > gsm7.ALONE:
        yield f"{length} septets au plus long ; un SMS en contient {gsm7.ALONE}"


def _links(text: str) -> Iterator[str]:
    if LINK.search(text):
        yield "pas d'adresse sur laquelle cliquer ; « caf.fr » seul est permis"


def _braced(names: Mapping[str, str]) -> str:
    return ", ".join(f"{{{name}}}" for name in names)
