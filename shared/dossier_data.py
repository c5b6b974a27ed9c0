"""What a dossier holds for those who ask after it (R38): the sections that are read one at a time.

The information system tells it in codes, never in words: each code is a prompt of the call script,
so nothing that comes from outside is ever spoken. These models are the schema of what it drops
(`dossier_import.py`), of what is kept here (`dossier_store.py`), and of what another source of
dossiers would have to answer.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Annotated, Any, Generic, NamedTuple, Protocol, Self, TypeVar
from uuid import UUID

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    TypeAdapter,
    ValidationInfo,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from shared.identifiers import CAISSE, NUMBER
from shared.rules import CODE, LONGEST_CODE, DossierRules

T = TypeVar("T")

MOST_ITEMS = 100  # of a section: nobody listens to more
MOST_TOGETHER = 5  # of what is said in one go: a longer command Asterisk does not read
MOST_CENTS = 100_000_000
MONTH = r"^(19|20|21)[0-9]{2}-(0[1-9]|1[0-2])$"
AHEAD = timedelta(hours=1)  # that another machine's clock may be
APPOINTMENT_MINUTES = 5  # appointments begin at multiples of it


@dataclass(frozen=True)
class Reading:
    """What data is judged by: the codes that have a prompt, and the time."""

    rules: DossierRules
    now: datetime


def _refusal(reason: str) -> PydanticCustomError:
    return PydanticCustomError("refused", reason)


@dataclass(frozen=True)
class Code:
    """Marks a code of a kind: one that `[dossier.codes]` of rules.toml has."""

    kind: str

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Take a text that is such a code."""
        text = core_schema.str_schema(pattern=CODE, max_length=LONGEST_CODE)
        return core_schema.with_info_after_validator_function(self._known, text)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Name the kind in the schema (`svi dossiers describe`)."""
        return {**handler(schema), "description": f"code, {self.kind}"}

    def _known(self, code: str, info: ValidationInfo[Reading]) -> str:
        if code not in getattr(info.context.rules.codes, self.kind):
            raise _refusal(f"code inconnu : {self.kind}, dans rules.toml, ne l'a pas")
        return code


def _of_a_caisse(code: str) -> str:
    if CAISSE.fullmatch(code) is None:
        raise _refusal("code de caisse inconnu")
    return code


def _not_to_come(instant: datetime, info: ValidationInfo[Reading]) -> datetime:
    """Refuse what nothing true could ever replace."""
    if instant > info.context.now + AHEAD:
        raise _refusal("instant à venir")
    return instant


def _as_on_the_clock(instant: datetime) -> datetime:
    if instant.minute % APPOINTMENT_MINUTES or instant.second or instant.microsecond:
        raise _refusal("heure attendue à cinq minutes près")
    if not instant.utcoffset():  # no caisse has the time of Greenwich: it would be said wrong
        raise _refusal("heure attendue avec le décalage du lieu, par exemple +01:00")
    return instant


def _in_order(key: Callable[[Any], object], *, newest_first: bool = False) -> AfterValidator:
    """Put a list into the order in which it is said."""

    def ordered(items: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(sorted(items, key=key, reverse=newest_first))  # type: ignore[arg-type]

    return AfterValidator(ordered)


Cents = Annotated[int, Field(ge=0, le=MOST_CENTS, description="cents of a euro")]
Day = Annotated[date, Field(ge=date(1900, 1, 1), le=date(2199, 12, 31))]
Month = Annotated[str, Field(pattern=MONTH)]
_Some = Field(max_length=MOST_ITEMS)
_Few = Field(max_length=MOST_TOGETHER)
_LAST = date.max  # where what has no day stands among days


class Told(BaseModel):
    """Base of what the information system tells: strict, and nothing that is not named here."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)

    def __repr_args__(self) -> list[tuple[str | None, object]]:
        """Hide every value from repr and str."""
        return []


class Withheld(Told):
    """What was kept back from a payment, and why."""

    cents: Cents
    reason: Annotated[str, Code("retenue")]


class Payment(Told):
    """A payment that was made, and to whom."""

    paid_on: Day
    cents: Cents
    withheld: Annotated[tuple[Withheld, ...], _Few] = ()
    payee: Annotated[str, Code("destinataire")]


class EntitledTo(Told):
    """A right in progress, or one that has ended and why."""

    code: Annotated[str, Code("droit")]
    since: Day
    ended_on: Day | None = None
    reason: Annotated[str, Code("motif")] | None = None

    @model_validator(mode="after")
    def _ended_for_a_reason(self) -> Self:
        if (self.ended_on is None) != (self.reason is None):
            raise _refusal("ended_on et reason vont ensemble")
        return self


class Quotient(Told):
    """The quotient familial of a month, in euros."""

    value: Annotated[int, Field(ge=0, le=999_999)]
    month: Month


class Claim(Told):
    """Where a claim stands."""

    category: Annotated[str, Code("demande")]
    received_on: Day
    state: Annotated[str, Code("etat")]
    expected_by: Day | None = None


class Request(Told):
    """What the Caf still needs (« La Caf vous demande »)."""

    document: Annotated[str, Code("document")]
    before: Day | None = None


class Certificate(Told):
    """A certificate that can be had, for which months."""

    kind: Annotated[str, Code("attestation")]
    months: Annotated[tuple[Month, ...], Field(min_length=1, max_length=MOST_ITEMS)]


class Debt(Told):
    """What is to be paid back: what is left, and how much of it each month."""

    code: Annotated[str, Code("dette")]
    left: Cents
    monthly: Cents | None = None


class Appointment(Told):
    """An appointment, and where."""

    at: Annotated[AwareDatetime, AfterValidator(_as_on_the_clock)]
    place: Annotated[str, Code("lieu")]


class UnreadLetter(Told):
    """A letter that nobody has read yet on the web."""

    code: Annotated[str, Code("courrier")]
    sent_on: Day


class Alert(Told):
    """What is to be done, and until when."""

    code: Annotated[str, Code("alerte")]
    before: Day | None = None


def _before(one: Request | Alert) -> date:
    return one.before or _LAST


Payments = Annotated[
    tuple[Payment, ...], _Some, _in_order(lambda one: one.paid_on, newest_first=True)
]
Rights = Annotated[
    tuple[EntitledTo, ...], _Some, _in_order(lambda one: one.ended_on or _LAST, newest_first=True)
]
Claims = Annotated[
    tuple[Claim, ...], _Some, _in_order(lambda one: one.received_on, newest_first=True)
]
Requests = Annotated[tuple[Request, ...], _Some, _in_order(_before)]
Certificates = Annotated[tuple[Certificate, ...], _Some]
Debts = Annotated[tuple[Debt, ...], _Some]
Appointments = Annotated[tuple[Appointment, ...], _Some, _in_order(lambda one: one.at)]
Letters = Annotated[
    tuple[UnreadLetter, ...], _Some, _in_order(lambda one: one.sent_on, newest_first=True)
]
Alerts = Annotated[tuple[Alert, ...], _Some, _in_order(_before)]


class _Line(Told):
    caisse: Annotated[str, AfterValidator(_of_a_caisse)]
    as_of: Annotated[AwareDatetime, AfterValidator(_not_to_come)]


class DossierLine(_Line):
    """What is told of one dossier, as it was at an instant; a section left out stays as it was."""

    number: Annotated[str, Field(pattern=f"^{NUMBER.pattern}$")]
    payments: Payments | None = None
    rights: Rights | None = None
    quotient: Annotated[tuple[Quotient, ...], Field(max_length=1)] | None = None
    claims: Claims | None = None
    requests: Requests | None = None
    certificates: Certificates | None = None
    debts: Debts | None = None
    appointments: Appointments | None = None
    letters: Letters | None = None
    alerts: Alerts | None = None


class Delay(Told):
    """Claims of which days are being dealt with."""

    category: Annotated[str, Code("traitement")]
    first: Day
    last: Day

    @model_validator(mode="after")
    def _in_this_order(self) -> Self:
        if self.last < self.first:
            raise _refusal("last vient avant first")
        return self


Delays = Annotated[tuple[Delay, ...], _Few]
DELAYS: TypeAdapter[tuple[Delay, ...]] = TypeAdapter(Delays)


class DelaysLine(_Line):
    """How far a caisse has got with what it received, by category."""

    delays: Delays


@dataclass(frozen=True, eq=False)
class Section(Generic[T]):
    """A part of a dossier that is told, kept and read as one; its name is `DossierLine`'s."""

    name: str
    adapter: "TypeAdapter[T]"

    def __str__(self) -> str:
        return self.name


PAYMENTS: Section[tuple[Payment, ...]] = Section("payments", TypeAdapter(Payments))
RIGHTS: Section[tuple[EntitledTo, ...]] = Section("rights", TypeAdapter(Rights))
QUOTIENT: Section[tuple[Quotient, ...]] = Section("quotient", TypeAdapter(tuple[Quotient, ...]))
CLAIMS: Section[tuple[Claim, ...]] = Section("claims", TypeAdapter(Claims))
REQUESTS: Section[tuple[Request, ...]] = Section("requests", TypeAdapter(Requests))
CERTIFICATES: Section[tuple[Certificate, ...]] = Section("certificates", TypeAdapter(Certificates))
DEBTS: Section[tuple[Debt, ...]] = Section("debts", TypeAdapter(Debts))
APPOINTMENTS: Section[tuple[Appointment, ...]] = Section("appointments", TypeAdapter(Appointments))
LETTERS: Section[tuple[UnreadLetter, ...]] = Section("letters", TypeAdapter(Letters))
ALERTS: Section[tuple[Alert, ...]] = Section("alerts", TypeAdapter(Alerts))
SECTIONS: tuple[Section[Any], ...] = (
    PAYMENTS, RIGHTS, QUOTIENT, CLAIMS, REQUESTS, CERTIFICATES, DEBTS, APPOINTMENTS, LETTERS, ALERTS
)  # fmt: skip


class Dossier(NamedTuple):
    """Whose section is read; only `dossier.py` knows one, of an open session (R39)."""

    account_id: UUID
    caisse: str
    number: str


class DossierSource(Protocol):
    """Where sections are read from: what was imported here, or a service of the caisses."""

    def read(self, dossier: Dossier, section: Section[T]) -> T:
        """Give it as it is now; UnavailableError, within a few seconds, if nobody can say.

        Called in a thread of the pool, outside any transaction.
        """
