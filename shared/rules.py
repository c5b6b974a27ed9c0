"""The rules that hold for every channel, read from one TOML file (D20)."""

import tomllib
from datetime import date, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError

from shared.errors import SettingsError

PARIS = ZoneInfo("Europe/Paris")
DEFAULT_FILE = Path(__file__).with_name("rules.toml")


class Channel(StrEnum):
    """Where a login comes from."""

    VOICE = "voice"
    WEB = "web"


class CredentialKind(StrEnum):
    """What a person proves who they are with."""

    PASSWORD = "password"  # noqa: S105 - 8 digits, one per dossier (R02)
    CODE = "code"  # the old 4-digit code confidentiel (R01)


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


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


class Outbox(_Table):
    """How messages are tried again (D19)."""

    lease_seconds: PositiveInt
    uncertain_seconds: PositiveInt
    retry_seconds: PositiveInt
    retry_longest_seconds: PositiveInt


class Passage(_Table):
    """One line of the transition table: a way in, from an instant until another (D10)."""

    credential: CredentialKind
    identifier: Literal["number"]
    channel: Channel
    since: datetime | None = Field(default=None, alias="from")
    until: datetime | None = None

    def open_at(self, instant: datetime) -> bool:
        """Say whether this way in is open; `since` is within, `until` is not."""
        return (self.since is None or _paris(self.since) <= instant) and (
            self.until is None or instant < _paris(self.until)
        )


class Rules(_Table):
    """All of `rules.toml`."""

    argon2: Argon2
    throttle: Throttle
    password: PasswordRules
    reset: Reset
    outbox: Outbox
    session: SessionRules
    transition: tuple[Passage, ...]

    def may_log_in(self, kind: CredentialKind, channel: Channel, instant: datetime) -> bool:
        """Ask the transition table, which denies by default (D10)."""
        return any(
            line.credential == kind and line.channel == channel and line.open_at(instant)
            for line in self.transition
        )

    def cut_over(self, kind: CredentialKind, channel: Channel) -> datetime | None:
        """Give the instant from which this way in is closed, if one is set (D02, R19)."""
        ends = [
            line.until
            for line in self.transition
            if line.credential == kind and line.channel == channel
        ]
        return max((_paris(end) for end in ends if end), default=None) if all(ends) else None


def load_rules(path: Path = DEFAULT_FILE) -> Rules:
    """Read and check the rules; SettingsError « file: key: reason » for the first fault."""
    try:
        return Rules.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: not TOML: {error}") from None
    except ValidationError as error:
        fault = error.errors()[0]
        key = ".".join(str(part) for part in fault["loc"])
        raise SettingsError(f"{path}: {key}: {fault['msg']}") from None


def _paris(instant: datetime) -> datetime:
    return instant if instant.tzinfo else instant.replace(tzinfo=PARIS)
