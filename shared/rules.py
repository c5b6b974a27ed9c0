"""The rules that hold for every channel, read from one TOML file (D20)."""

from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, date, datetime, time
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    model_validator,
)
from pydantic_core import PydanticCustomError

from shared import settings_file
from shared.errors import SettingsError

PARIS = ZoneInfo("Europe/Paris")
LONG_AGO = datetime.min.replace(tzinfo=UTC)  # where a period without `from` begins
DEFAULT_FILE = Path(__file__).with_name("rules.toml")
CODE = r"^[a-z0-9]+(-[a-z0-9]+)*$"  # as a prompt's id
LONGEST_CODE = 40


class Channel(StrEnum):
    """Where something is asked for; nobody logs in with a secret on the last two."""

    VOICE = "voice"
    WEB = "web"
    APP = "app"
    KIOSK = "kiosk"
    AGENT = "agent"
    ADMIN = "admin"


class CredentialKind(StrEnum):
    """What a person proves who they are with."""

    PASSWORD = "password"  # noqa: S105 - 8 digits, one per dossier (R02)
    CODE = "code"  # the old 4-digit code confidentiel (R01)
    WEB = "web-password"  # each person's own on the web (R14, R18)
    ONE_TIME = "one-time-code"  # sent to a contact on file (R15, D10)


class Identifier(StrEnum):
    """What a person says who they are with."""

    NUMBER = "number"  # numéro d'allocataire, of the dossier (D01)
    NIR = "nir"  # social security number, of the person (R18)
    PROVISIONAL = "provisional"  # `P` + 8 digits, of a person without a NIR (R20)


class Way(StrEnum):
    """What a line of the transition table opens."""

    LOGIN = "login"
    BASCULE = "bascule"  # the first login on the web, which ends with a password (R18)
    CLOSED = "closed"  # nothing: a period left out on purpose


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _refusal(reason: str) -> PydanticCustomError:
    return PydanticCustomError("refused", reason)


def _as_utc(instant: datetime) -> datetime:
    """Read a time without offset as Paris time; refuse one that Paris has twice or never."""
    if instant.tzinfo is None:
        instant = instant.replace(tzinfo=PARIS)
        if instant.utcoffset() != instant.replace(fold=1).utcoffset():
            raise _refusal("the clocks change at that time: write its offset too, as +01:00")
    try:
        return instant.astimezone(UTC)
    except OverflowError:
        raise _refusal("too far away: leave the key out for a period without end") from None


def _of_the_public(channel: Channel) -> Channel:
    if channel in (Channel.AGENT, Channel.ADMIN):
        raise _refusal("nobody logs in there with a secret: use voice, web, app or kiosk")
    return channel


# Strict: a number would be read as seconds since 1970.
_Instant = Annotated[datetime, Field(strict=True), AfterValidator(_as_utc)]


class Argon2(_Table):
    """Cost of one password hash (D13)."""

    memory_kib: int = Field(ge=8, le=65536)
    passes: int = Field(ge=1, le=10)
    lanes: int = Field(ge=1, le=4)


class Throttle(_Table):
    """How often a login may fail (D05)."""

    call_passwords: PositiveInt
    call_numbers: PositiveInt
    account_failures: PositiveInt
    account_failures_known: PositiveInt
    account_failures_in_row: PositiveInt
    code_failures: PositiveInt
    caller_failures: PositiveInt
    caller_accounts: PositiveInt
    partners: frozenset[Annotated[str, Field(pattern=r"^\+[0-9]{6,15}$")]]
    partner_factor: PositiveInt
    withheld_share: float = Field(gt=0, le=1)
    withheld_minimum: PositiveInt
    alarm_factor: PositiveInt
    alarm_minimum: PositiveInt
    breaker_factor: PositiveInt
    breaker_minimum: PositiveInt


class SessionRules(_Table):
    """How long a session lives."""

    minutes: PositiveInt
    steps_minutes: PositiveInt


class PasswordRules(_Table):
    """How long a password lives."""

    years: PositiveInt
    provisional_days: PositiveInt
    final_from: date


class Reset(_Table):
    """How often a new password is sent, and where to (D03, D04, D06)."""

    account_minutes: PositiveInt
    account_day: PositiveInt
    account_month: PositiveInt
    phone_day: PositiveInt
    service_hour: PositiveInt
    letter_days: PositiveInt
    contact_days: PositiveInt
    message_hours: PositiveInt


class CodeRules(_Table):
    """How long a verification code lives, and how often it is sent (R15)."""

    sms_minutes: PositiveInt
    mail_minutes: PositiveInt
    resends: PositiveInt
    clients_hour: PositiveInt


class BasculeRules(_Table):
    """How a person's first login on the web goes (R18)."""

    contact_confirmation: Literal["optional", "required"]


class Outbox(_Table):
    """How messages are tried again (D19)."""

    lease_seconds: PositiveInt
    uncertain_seconds: PositiveInt
    retry_seconds: PositiveInt
    retry_longest_seconds: PositiveInt


class CampaignRules(_Table):
    """When campaigns may write to people, and what they cost (R24)."""

    opens: time
    closes: time
    sms_euros: float = Field(ge=0)
    per_second: PositiveInt

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.closes <= self.opens:
            raise _refusal("closes must be later than opens")
        return self


class LetterRules(_Table):
    """How long a letter may take to leave (R25)."""

    overdue_hours: PositiveInt


class InboundRules(_Table):
    """How what people write to us is answered (D14)."""

    reply_minutes: PositiveInt


class AgentRules(_Table):
    """How often agents have a password sent (R09)."""

    account_day: PositiveInt


class Retention(_Table):
    """How long things are kept (D16)."""

    audit_days: PositiveInt
    call_days: PositiveInt
    message_days: PositiveInt
    campaign_days: PositiveInt
    task_days: PositiveInt
    dossier_days: PositiveInt
    pseudonym_key_days: PositiveInt


_Codes = frozenset[Annotated[str, Field(pattern=CODE, max_length=LONGEST_CODE)]]


class DossierCodes(_Table):
    """The codes that a dossier may hold, by kind; each is a prompt, « droit-apl » (R38)."""

    destinataire: _Codes
    retenue: _Codes
    droit: _Codes
    motif: _Codes
    demande: _Codes
    etat: _Codes
    document: _Codes
    attestation: _Codes
    dette: _Codes
    lieu: _Codes
    courrier: _Codes
    alerte: _Codes
    traitement: _Codes


class DossierRules(_Table):
    """What is told of dossiers, and for how long it is good (R38)."""

    fresh_days: PositiveInt
    delays_fresh_days: PositiveInt
    codes: DossierCodes


class Lengths(_Table):
    """How many characters a password may have."""

    shortest: PositiveInt
    longest: PositiveInt

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.longest < self.shortest:
            raise _refusal("longest must not be below shortest")
        return self

    def allow(self, length: int) -> bool:
        """Say whether a password of so many characters is neither too short nor too long."""
        return self.shortest <= length <= self.longest


class DatedLengths(Lengths):
    """Lengths that hold from an instant on."""

    since: _Instant | None = Field(default=None, alias="from")


class WebPasswordRules(_Table):
    """How long the password is that a person chooses on the web (R14)."""

    accepted: Lengths
    new: tuple[DatedLengths, ...]

    @model_validator(mode="after")
    def _by_date(self) -> Self:
        starts = [lengths.since or LONG_AGO for lengths in self.new]
        if starts[:1] != [LONG_AGO]:
            raise _refusal("new: the first line has no « from »")
        if any(later <= earlier for earlier, later in pairwise(starts)):
            raise _refusal("new: each line after the first needs a later « from »")
        return self

    def new_at(self, instant: datetime) -> Lengths:
        """Give the lengths of a password that is chosen at that instant."""
        return [one for one in self.new if (one.since or LONG_AGO) <= instant][-1]


class Passage(_Table):
    """One line of the transition table: a way in, from an instant until another (D10).

    Both instants are UTC; the file gives them in Paris time.
    """

    credential: CredentialKind
    identifier: Identifier
    channel: Annotated[Channel, AfterValidator(_of_the_public)]
    way: Way = Way.LOGIN
    since: _Instant | None = Field(default=None, alias="from")
    until: _Instant | None = None

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.until is not None and self.until <= self.start:
            raise _refusal("« until » must be later than « from »")
        return self

    @property
    def key(self) -> tuple[CredentialKind, Identifier, Channel]:
        """What the lines must have in common to follow one another."""
        return self.credential, self.identifier, self.channel

    @property
    def start(self) -> datetime:
        """The instant that `from` gives, or one before all others."""
        return self.since or LONG_AGO

    def holds_at(self, instant: datetime) -> bool:
        """Say whether this line is the one to read: `since` is within, `until` is not."""
        return self.start <= instant and (self.until is None or instant < self.until)


class Rules(_Table):
    """All of `rules.toml`."""

    argon2: Argon2
    throttle: Throttle
    password: PasswordRules
    web_password: WebPasswordRules
    reset: Reset
    code: CodeRules
    bascule: BasculeRules
    outbox: Outbox
    campaign: CampaignRules
    letters: LetterRules
    agents: AgentRules
    inbound: InboundRules
    retention: Retention
    session: SessionRules
    dossier: DossierRules
    transition: tuple[Passage, ...]

    def way_in(
        self, kind: CredentialKind, identifier: Identifier, channel: Channel, instant: datetime
    ) -> Way:
        """Ask the transition table, which denies by default (D10)."""
        return next(
            (line.way for line in self._lines(kind, identifier, channel) if line.holds_at(instant)),
            Way.CLOSED,
        )

    def may_log_in(
        self, kind: CredentialKind, identifier: Identifier, channel: Channel, instant: datetime
    ) -> bool:
        """Say whether the table opens a session; the bascule (R18) is another way in."""
        return self.way_in(kind, identifier, channel, instant) is Way.LOGIN

    def cut_over(
        self, kind: CredentialKind, identifier: Identifier, channel: Channel
    ) -> datetime | None:
        """Give the instant from which this login is closed for good, if one is set (D02, R19)."""
        ends = [
            line.until for line in self._lines(kind, identifier, channel) if line.way is Way.LOGIN
        ]
        return max((end for end in ends if end), default=None) if all(ends) else None

    def _lines(self, *key: str) -> Iterator[Passage]:
        return (line for line in self.transition if line.key == key)


def load_rules(path: Path = DEFAULT_FILE) -> Rules:
    """Read and check the rules; SettingsError « file: key: reason » for the first fault."""
    rules = settings_file.load(path, Rules)
    for finding in _findings(rules.transition):
        raise SettingsError(f"{path}: {finding}")
    return rules


def _findings(transition: tuple[Passage, ...]) -> Iterator[str]:
    """Find lines of one key that overlap, or leave a period unsaid between them."""
    periods = defaultdict(list)
    for index, line in enumerate(transition):
        periods[line.key].append((line.start, index, line.until))
    for of_one_key in periods.values():
        for (_, earlier, until), (start, later, _) in pairwise(sorted(of_one_key)):
            if until is None or start < until:
                yield (
                    f"transition.{later}: overlaps transition.{earlier}: end that one"
                    " where this one begins"
                )
            elif start > until:
                yield (
                    f"transition.{later}: nothing is said of the time since transition.{earlier}:"
                    ' make them meet, or add a line with way = "closed" between them'
                )
