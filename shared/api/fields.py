"""What bodies are made of: each field with its shape, and who a request comes from."""

import re
from collections.abc import Callable
from datetime import date, datetime
from typing import Annotated, Any, Literal, TypeVar
from uuid import UUID

from pydantic import Field, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from shared.api.bodies import Strict
from shared.codes import DIGITS
from shared.contacts import normal_mail, read_contact
from shared.identifiers import (
    CAISSE,
    LONGEST_MAIL,
    MAIL,
    NUMBER,
    PROVISIONAL,
    e164,
    is_mail,
    takes_sms,
)
from shared.incident import CHANNELS
from shared.nir import WITHOUT_KEY
from shared.origin import Origin
from shared.passwords import LENGTH
from shared.rules import Channel, Identifier
from shared.secret import Secret
from shared.web_accounts import Holder

LONGEST_NAME = 100
LONGEST_PURPOSE = 40
LONGEST_VARIABLE = 160  # as long as an SMS: what fits is the template's to say
LONGEST_CHOICE = 128  # beyond any password: which lengths are allowed is R14's to say

T = TypeVar("T")


def _read(pattern: str, make: Callable[[str], T]) -> PlainValidator:
    """Read text of one shape; pydantic's own reading allows several."""
    shape = re.compile(pattern)

    def read(text: object) -> T:
        if not isinstance(text, str):
            raise PydanticCustomError("string_type", "no text")
        if shape.fullmatch(text) is None:
            raise PydanticCustomError("string_pattern_mismatch", "of another shape")
        return make(text)

    return PlainValidator(read)


def _mobile(text: str) -> str:
    """Give a mobile as +…, if one may send it an SMS (D08)."""
    number = e164(text)
    if number is None or not takes_sms(number):
        raise PydanticCustomError("not_a_french_mobile", "none")
    return number


def _contact(text: str) -> str:
    """Give a contact as a dossier has it, if a message can go there."""
    contact = read_contact(text)
    if contact is None:
        raise PydanticCustomError("not_a_french_mobile", "none")
    return contact.value


def _mail(text: str) -> str:
    """Give a mail address as it is compared, if it is not too long for one."""
    if not is_mail(text):
        raise PydanticCustomError("string_too_long", "too long")
    return normal_mail(text)


def _text(pattern: str, **more: Any) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": f"^(?:{pattern})$", **more})


_TYPED = r"[!-~]{1,64}"  # what can be typed; whether it is right is not for here
_EIGHT = rf"[0-9]{{{LENGTH}}}"
_CHOSEN = rf"(?s:.){{1,{LONGEST_CHOICE}}}"
_CODE = rf"[0-9]{{{DIGITS}}}"
_UUID = "-".join(f"[0-9a-f]{{{length}}}" for length in (8, 4, 4, 4, 12))
_COUNT = r"0|[1-9][0-9]{0,14}"
_INSTANT = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?Z"
_SCOPE = rf"service|channel:(?:{'|'.join(CHANNELS)})|caisse:{CAISSE.pattern}"
_PHONE = r"\+[1-9](?:[ .-]?[0-9]){7,14}|0[1-9](?:[ .-]?[0-9]){8}"
_DAY = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_HIDDEN: dict[str, Any] = {"format": "password", "writeOnly": True}

CaisseCode = Annotated[str, _read(CAISSE.pattern, str), _text(CAISSE.pattern, examples=["92"])]
Number = Annotated[str, Field(pattern=f"^{NUMBER.pattern}$", repr=False, examples=["0000354"])]
Nir = Annotated[
    str, Field(pattern=f"^{WITHOUT_KEY.pattern}$", repr=False, description="without its key")
]
PersonId = Annotated[
    str,
    Field(
        pattern=f"^(?:{WITHOUT_KEY.pattern}|{PROVISIONAL.pattern})$",
        repr=False,
        description="a NIR without its key, or a provisional identifier (R20)",
    ),
]
Password = Annotated[Secret, _read(_TYPED, Secret), _text(_TYPED, **_HIDDEN)]
EightDigits = Annotated[Secret, _read(_EIGHT, Secret), _text(_EIGHT, **_HIDDEN)]
NewPassword = Annotated[
    Secret,
    _read(_CHOSEN, Secret),
    WithJsonSchema({"type": "string", "minLength": 1, "maxLength": LONGEST_CHOICE, **_HIDDEN}),
]
Code = Annotated[Secret, _read(_CODE, Secret), _text(_CODE, **_HIDDEN)]
Uuid = Annotated[UUID, _read(_UUID, UUID), _text(_UUID, format="uuid")]
ChangeNumber = Annotated[  # in a query, where everything is text
    int,
    _read(_COUNT, int),
    WithJsonSchema({"type": "integer", "minimum": 0, "maximum": 10**15 - 1}),
]
Instant = Annotated[
    datetime,
    _read(_INSTANT, datetime.fromisoformat),
    _text(_INSTANT, format="date-time", examples=["2021-11-02T09:30:00Z"]),
]
Day = Annotated[
    date,
    _read(_DAY, date.fromisoformat),
    WithJsonSchema({"type": "string", "format": "date", "examples": ["1995-10-07"]}),
]
Name = Annotated[str, Field(min_length=1, max_length=LONGEST_NAME, repr=False)]
ContactText = Annotated[
    Annotated[str, Field(min_length=1, max_length=LONGEST_MAIL)] | None,
    Field(
        repr=False,
        description="where the code should go, as the person wrote it; null: it was not asked",
    ),
]
_Mobile = Annotated[
    str,
    _read(_PHONE, _mobile),
    _text(_PHONE, description="a French mobile, +… or national (D08)", examples=["+33612345678"]),
]
Mobile = Annotated[_Mobile, Field(repr=False)]
MobileOrNone = Annotated[_Mobile | None, Field(repr=False)]
_Mail = Annotated[
    str,
    _read(MAIL.pattern, _mail),
    _text(MAIL.pattern, maxLength=LONGEST_MAIL, examples=["claire@exemple.fr"]),
]
MailOrNone = Annotated[_Mail | None, Field(repr=False)]
OwnPurpose = Annotated[
    str,
    Field(
        pattern=f"^[a-z0-9-]{{1,{LONGEST_PURPOSE}}}$",
        description="what the client has the contact confirmed for, in words of its own",
        examples=["rendez-vous-en-ligne"],
    ),
]
MobileOrMail = Annotated[
    str,
    _read(f"{_PHONE}|{MAIL.pattern}", _contact),
    _text(
        f"{_PHONE}|{MAIL.pattern}",
        maxLength=LONGEST_MAIL,
        description="a French mobile, +… or national (D08), or a mail address",
        examples=["+33612345678", "claire@exemple.fr"],
    ),
    Field(repr=False),
]
VariableText = Annotated[
    str,
    Field(
        min_length=1,
        max_length=LONGEST_VARIABLE,
        pattern=r"^[^\x00-\x1f\x7f-\x9f]*$",  # one line
    ),
]
CodeRoute = Literal["sms", "mail"]
WebChannel = Literal["web", "app", "kiosk"]
AnyChannel = Literal["voice", "web", "app", "kiosk"]
IncidentScope = Annotated[
    str, _read(_SCOPE, str), _text(_SCOPE, examples=["service", "channel:voice", "caisse:92"])
]
Address = Annotated[
    str,
    Field(
        pattern=r"^[!-~]{1,128}$",
        repr=False,
        description="what the client counts a person's failures by, such as a hash of the network"
        " address: D05 treats it as the telephone treats a caller id",
    ),
]


class FromClient(Strict):
    """Who asks, as the client knows it."""

    channel: WebChannel
    client: Address

    def origin(self, api_client: str) -> Origin:
        """Say where this comes from, as the throttles count it."""
        return Origin.for_client(Channel(self.channel), api_client, self.client)


class OfPerson(FromClient):
    """A person, and who asks for him or her."""

    identifier: PersonId

    def holder(self) -> Holder:
        """Give what finds the person."""
        by_nir = WITHOUT_KEY.fullmatch(self.identifier)
        return Holder(Identifier.NIR if by_nir else Identifier.PROVISIONAL, self.identifier)
