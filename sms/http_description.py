"""An SMS operator with an HTTP/JSON API, described wholly in a file that admins edit.

The file names secrets and holds none. What a message fills in are values of a JSON document or of
a form, never pieces of its text: whatever a message says, it says it in the field that is for it.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from enum import StrEnum
from math import isfinite
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from shared import settings_file
from shared.models import MessageState
from shared.outbox import Result
from sms.json_answers import POINTER, text_at
from sms.loopback import is_loopback

TIMEOUT_SECONDS = 10.0
MOST_CODES = 50  # each may become a label of our metrics
TAKEN = ("twilio", "smpp", "smtp", "file", "file-sms", "file-mail")

OUR_FAULT = None
"""Our account or this file is wrong: no message would be taken."""

OUTCOMES: Mapping[str, Result | None] = {
    "accepted": Result.ACCEPTED,
    "refused": Result.REFUSED,
    "retry": Result.RETRY,
    "our-fault": OUR_FAULT,
    "uncertain": Result.UNCERTAIN,
}
"""How the file writes what becomes of a message."""

FATES: Mapping[str, Result] = {
    name: result
    for name, result in OUTCOMES.items()
    if result in (Result.ACCEPTED, Result.REFUSED, Result.RETRY)
}
"""How it writes what a look-up tells."""

RECEIPTS: Mapping[str, MessageState] = {
    state.value: state
    for state in (MessageState.ACCEPTED, MessageState.DELIVERED, MessageState.UNDELIVERED)
}
"""How it writes what a receipt tells."""

BY_STATUS: Mapping[int, Result | None] = {
    400: Result.REFUSED,
    401: OUR_FAULT,
    403: OUR_FAULT,
    404: OUR_FAULT,
    405: OUR_FAULT,
    422: Result.REFUSED,
    429: Result.RETRY,
}
"""What an HTTP status means, unless the file says otherwise; any other leaves it uncertain."""

OF_ANY_FIREWALL = (403, 404, 405)
"""Statuses that something between us and the operator answers too, of one message alone."""

OF_MESSAGE = (
    *("to", "to_digits", "text", "sender", "attempt_id", "receipt_url"),
    *("validity_seconds", "validity_minutes", "validity_ms", "expires_at"),
)
"""What the body of a request may name; `to_digits` is `to` without its plus."""

OF_ADDRESS = ("attempt_id",)
"""What addresses and headers may name: proxies log them, so nothing of a person (D13)."""

OURS = {"connection", "content-length", "content-type", "host", "transfer-encoding"}
"""Headers that are not the file's to set."""

_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")
_URL = re.compile(r"[!\"$-~]{1,500}")  # no space, and no fragment


def _refusal(reason: str) -> PydanticCustomError:
    return PydanticCustomError("refused", "{reason}", {"reason": reason})


def _word(table: Mapping[str, object]) -> BeforeValidator:
    """Read a word of a table as what it means."""

    def read(word: object) -> object:
        if not isinstance(word, str) or word not in table:
            raise _refusal(f"il faut {', '.join(table)}")
        return table[word]

    return BeforeValidator(read)


def _one_of(kind: type[StrEnum]) -> BeforeValidator:
    return _word({one.value: one for one in kind})


def _placeholders(text: str, allowed: Collection[str]) -> set[str]:
    """Give what a text names; a refusal for what there is not, and for stray braces."""
    named = set(_PLACEHOLDER.findall(text))
    if unknown := named - set(allowed):
        known = ", ".join(f"{{{name}}}" for name in allowed) or "aucun paramètre"
        raise _refusal(f"{{{min(unknown)}}} n'existe pas ici ; il y a {known}")
    if set(_PLACEHOLDER.sub("", text)) & set("{}"):
        raise _refusal("une accolade est de trop ; un paramètre s'écrit {nom}")
    return named


def _address(url: str) -> str:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise _refusal("ce n'est pas une adresse") from None
    if not host or not (parts.scheme == "https" or _in_clear_here(parts.scheme, host)):
        raise _refusal("il faut https:// ; http:// vers cette machine seulement")
    if not _URL.fullmatch(url) or "{" in parts.netloc:
        raise _refusal("ce n'est pas une adresse")
    if "@" in parts.netloc:
        raise _refusal("pas d'identifiants dans l'adresse : ils vont dans le fichier secrets")
    _placeholders(url, OF_ADDRESS)
    return url


def _in_clear_here(scheme: str, host: str) -> bool:
    return scheme == "http" and is_loopback(host)


def _header_name(name: str) -> str:
    if name.lower() in OURS:
        raise _refusal("cet en-tête n'est pas à mettre ici")
    return name


def _public_header_name(name: str) -> str:
    if name.lower() in ("authorization", "cookie"):
        raise _refusal("un secret n'est pas à mettre ici ; voyez auth")
    return name


def _header_value(value: str) -> str:
    _placeholders(value, OF_ADDRESS)
    return value


def _own_name(name: str) -> str:
    if name in TAKEN:
        raise _refusal(f"ce nom est pris ; {', '.join(TAKEN)} le sont")
    return name


Outcome = Annotated[Result | None, _word(OUTCOMES)]
Pointer = Annotated[str, Field(pattern=POINTER)]
SecretName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
Code = Annotated[str, Field(pattern=r"^[!-~]{1,40}$")]
Address = Annotated[str, AfterValidator(_address)]
HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,60}$"), AfterValidator(_header_name)]
PublicHeaderName = Annotated[HeaderName, AfterValidator(_public_header_name)]
HeaderValue = Annotated[str, Field(pattern=r"^[ -~]{1,200}$"), AfterValidator(_header_value)]


class Format(StrEnum):
    """How a request, or a receipt, is written."""

    JSON = "json"
    FORM = "form"


class Algorithm(StrEnum):
    """What a receipt is signed with."""

    SHA256 = "sha256"
    SHA512 = "sha512"


class Encoding(StrEnum):
    """How its signature is written."""

    HEX = "hex"
    BASE64 = "base64"


_Format = Annotated[Format, _one_of(Format)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _OneOf(_Table):
    """A table of which exactly one key is given."""

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if sum(value is not None for _, value in self) != 1:
            raise _refusal(f"il faut exactement une de {', '.join(type(self).model_fields)}")
        return self


class Basic(_Table):
    """The secrets that are user and password (RFC 7617)."""

    user: SecretName
    password: SecretName


class Auth(_OneOf):
    """How the operator knows us; each names secrets."""

    bearer: SecretName | None = None
    basic: Basic | None = None
    headers: Annotated[dict[HeaderName, SecretName], Field(min_length=1)] | None = None

    @property
    def secret_names(self) -> list[str]:
        """Give the secrets that it takes."""
        return [*_names(self.bearer, self.basic), *(self.headers or {}).values()]


class Send(_Table):
    """The request that hands a message over, by POST.

    A GET would show it to every proxy, and what HTTP calls idempotent aiohttp repeats by itself.
    """

    url: Address
    headers: dict[PublicHeaderName, HeaderValue] = {}
    format: _Format = Format.JSON
    body: dict[str, Any]
    timeout_seconds: float = Field(default=TIMEOUT_SECONDS, gt=0, le=TIMEOUT_SECONDS)

    @model_validator(mode="after")
    def _says_it_all(self) -> Self:
        named = set(_of_body(self.body))
        if "text" not in named or not named & {"to", "to_digits"}:
            raise _refusal("body : il faut {text}, et {to} ou {to_digits}")
        if self.format is Format.FORM and any(
            isinstance(value, dict | list) for value in self.body.values()
        ):
            raise _refusal("body : un formulaire n'a ni tables ni listes")
        return self

    @property
    def names_receipts(self) -> bool:
        """Say whether each request tells where its receipts go."""
        return "receipt_url" in set(_of_body(self.body))


class Answer(_Table):
    """How the answer to it is read."""

    success: Annotated[frozenset[Annotated[int, Field(ge=200, le=299)]], Field(min_length=1)] = (
        frozenset({200, 201, 202})
    )
    id: Pointer | None = None
    code: Pointer | None = None
    codes: Annotated[dict[Code, Outcome], Field(max_length=MOST_CODES)] = {}
    statuses: dict[Annotated[int, Field(ge=300, le=599)], Outcome] = {}

    @model_validator(mode="after")
    def _codes_have_a_place(self) -> Self:
        if bool(self.codes) != (self.code is not None):
            raise _refusal("code et codes vont ensemble : où il est, et ce qu'il veut dire")
        if Result.ACCEPTED in self.statuses.values():
            raise _refusal("statuses : un statut qui veut dire accepted n'existe que dans success")
        return self

    def judge(self, status: int, document: object) -> tuple[Result | None, str]:
        """Tell what an answer means, and by which code; only codes of the tables are repeated."""
        said = text_at(document, self.code) if self.code else None
        if said is not None and said in self.codes and status < 500:  # a 5xx may say anything
            return self.codes[said], said
        if status not in self.success:
            return self._judge_refusal(status, document), str(status)
        # Where a code says that it was taken, an answer without it does not.
        lacks_code = self.code and (document is None or Result.ACCEPTED in self.codes.values())
        if said is not None or lacks_code:
            return Result.UNCERTAIN, "unreadable"
        return Result.ACCEPTED, ""

    def _judge_refusal(self, status: int, document: object) -> Result | None:
        """Tell what a status means; what is no document may be of a firewall that read the text."""
        if status in self.statuses:
            return self.statuses[status]
        if status in OF_ANY_FIREWALL and document is None:
            return Result.UNCERTAIN
        return BY_STATUS.get(status, Result.UNCERTAIN)


class LookUp(_Table):
    """How the operator is asked what became of an attempt; the answer must name it."""

    url: Address
    attempt_id: Pointer
    id: Pointer
    state: Pointer | None = None
    states: dict[Code, Annotated[Result, _word(FATES)]] = {}

    @model_validator(mode="after")
    def _asks_for_the_attempt(self) -> Self:
        if "{attempt_id}" not in self.url:
            raise _refusal("url : il faut {attempt_id}")
        if bool(self.states) != (self.state is not None):
            raise _refusal("state et states vont ensemble : où il est, et ce qu'il veut dire")
        return self

    def judge(self, attempt_id: str, document: object) -> tuple[Result, str] | None:
        """Tell what it answers of an attempt; None if it does not know, or speaks of another."""
        if text_at(document, self.attempt_id) != attempt_id:
            return None
        if self.state is None:
            return Result.ACCEPTED, ""
        said = text_at(document, self.state)
        return (self.states[said], said) if said is not None and said in self.states else None


class Hmac(_Table):
    """A signature of the whole body, in a header."""

    header: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,60}$")]
    secret: SecretName
    algorithm: Annotated[Algorithm, _one_of(Algorithm)] = Algorithm.SHA256
    encoding: Annotated[Encoding, _one_of(Encoding)] = Encoding.HEX
    prefix: Annotated[str, Field(pattern=r"^[!-~]{0,20}$")] = ""


class ReceiptAuth(_OneOf):
    """How we know that a receipt is the operator's."""

    hmac: Hmac | None = None
    basic: Basic | None = None
    token: SecretName | None = None  # the last part of the receipts' address

    @property
    def secret_names(self) -> list[str]:
        """Give the secrets that it takes."""
        return [*_names(self.token, self.basic), *([self.hmac.secret] if self.hmac else [])]


class Receipts(_Table):
    """How receipts are read; of a form, `/name` is the field `name`."""

    format: _Format = Format.JSON
    provider_id: Pointer
    attempt_id: Pointer | None = None
    state: Pointer
    states: Annotated[dict[Code, Annotated[MessageState, _word(RECEIPTS)]], Field(min_length=1)]
    auth: ReceiptAuth


class Description(_Table):
    """All of the file."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{1,20}$"), AfterValidator(_own_name)]
    secrets: Annotated[str, Field(min_length=1)]
    auth: Auth
    send: Send
    answer: Answer
    look_up: LookUp | None = None
    receipts: Receipts | None = None

    @model_validator(mode="after")
    def _receipts_can_be_matched(self) -> Self:
        if self.send.names_receipts and self.receipts is None:
            raise _refusal("send nomme {receipt_url} : il faut dire dans receipts comment les lire")
        if self.by_provider_id and self.answer.id is None:
            raise _refusal("answer.id : sans lui, ni attempt_id, receipts ne retrouve aucun SMS")
        return self

    @property
    def by_provider_id(self) -> bool:
        """Say whether receipts name a message as the operator does, and not our attempt."""
        return self.receipts is not None and self.receipts.attempt_id is None

    @property
    def codes(self) -> frozenset[str]:
        """Give the codes that an attempt may end with."""
        return frozenset({*self.answer.codes, *map(str, {**BY_STATUS, **self.answer.statuses})})

    @property
    def secret_names(self) -> list[str]:
        """Give the names of all secrets that the file wants."""
        of_receipts = self.receipts.auth.secret_names if self.receipts else []
        return sorted({*self.auth.secret_names, *of_receipts})


def load(path: Path) -> Description:
    """Read and check a description; SettingsError « file: key: reason » for the first fault."""
    return settings_file.load(path, Description)


def check(path: Path) -> list[str]:
    """Give every fault of the file, « file: key: reason » each."""
    return settings_file.check(path, Description)


def fill(template: Any, values: Mapping[str, str | int]) -> Any:
    """Fill a template: a text that is one placeholder becomes its value, number or text."""
    match template:
        case str() if alone := _PLACEHOLDER.fullmatch(template):
            return values[alone[1]]
        case str():
            return _PLACEHOLDER.sub(lambda found: str(values[found[1]]), template)
        case dict():
            return {key: fill(value, values) for key, value in template.items()}
        case list():
            return [fill(value, values) for value in template]
    return template


def _of_body(body: object) -> Iterator[str]:
    """Give every placeholder of a body; a refusal for what no JSON has."""
    match body:
        case str():
            yield from _placeholders(body, OF_MESSAGE)
        case dict():
            for key, value in body.items():
                _placeholders(key, ())
                yield from _of_body(value)
        case list():
            for value in body:
                yield from _of_body(value)
        case bool() | int():
            pass
        case float() if isfinite(body):
            pass
        case _:
            raise _refusal("body : il faut des textes, des nombres, true ou false")


def _names(one: str | None, basic: Basic | None) -> list[str]:
    pair = [basic.user, basic.password] if basic else []
    return [*([one] if one else []), *pair]
