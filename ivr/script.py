"""The call script as the program knows it: lines, steps, caisses and delays, already checked."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from pydantic_core import PydanticCustomError

from ivr.hours import Hours, Period
from ivr.prompts import Catalogue
from ivr.step import (
    CaisseId,
    HoursId,
    LineId,
    PlatformId,
    PromptId,
    ScriptTable,
    Step,
    StepId,
)


class Delays(ScriptTable):
    """How long the caller may take, in seconds, and how often a question is asked (D18)."""

    first_key: PositiveFloat
    between_keys: PositiveFloat
    tries: PositiveInt


class LineKind(StrEnum):
    """Whose advisers a line leads to."""

    CAISSE = "caisse"  # the caisse's (R34)
    ARIPA = "aripa"  # R35
    STUDENT = "student"  # R36
    HELP = "help"  # R37


class Line(ScriptTable):
    """A number that people call."""

    kind: LineKind
    greeting: PromptId
    first_step: StepId
    caisse: CaisseId | None = None
    hours: HoursId | None = None
    closed: StepId | None = None  # the first step outside of its hours

    @model_validator(mode="after")
    def _closed_by_hours(self) -> Self:
        if (self.hours is None) != (self.closed is None):
            raise PydanticCustomError("refused", "hours et closed vont ensemble")
        return self


class Department(ScriptTable):
    """A département with several caisses: the question that tells them apart."""

    prompt: PromptId
    choices: dict[str, CaisseId]


class Answering(ScriptTable):
    """When advisers answer, and which platform does instead of them when they don't."""

    hours: HoursId | None = None  # None: always
    overflow: PlatformId | None = None


class Platform(Answering):
    """Advisers who answer together."""

    kind: Literal["aripa", "student", "help"] | None = None
    caisses: tuple[CaisseId, ...] | None = None


class Platforms(ScriptTable):
    """Which platform answers whom; its name is the dialplan's (extensions.conf, `adviser`)."""

    default: Answering  # of a caisse that no platform names
    platforms: dict[str, Platform] = Field(default_factory=dict)

    def of(self, kind: LineKind, caisse: str) -> tuple[str, Answering]:
        """Give the platform of a line's callers and its name; `caisse` is "" if unknown."""
        for name, platform in self.platforms.items():
            if platform.kind == kind or (
                kind is LineKind.CAISSE and caisse in (platform.caisses or ())
            ):
                return name, platform
        return f"caisse-{caisse or 'inconnue'}", self.default


class Announcement(Period):
    """Something that all callers of some lines or caisses are told for a time."""

    prompt: PromptId
    lines: tuple[LineId, ...] | None = None  # None: all
    caisses: tuple[CaisseId, ...] | None = None  # likewise
    emergency: bool = False

    def is_for(self, line: str, caisse: str) -> bool:
        """Say whether it is for the callers of a line who are of a caisse, "" if unknown."""
        return (self.lines is None or line in self.lines) and (
            self.caisses is None or caisse in self.caisses
        )


@dataclass(frozen=True)
class Script:
    """A checked call script."""

    first_step: StepId
    failure_step: StepId
    session_ended_step: StepId
    lines: Mapping[str, Line]
    caisses: Mapping[str, str]
    departments: Mapping[str, Department]
    hours: Mapping[str, Hours]
    platforms: Platforms
    announcements: Mapping[str, Announcement]
    steps: Mapping[str, Step]
    delays: Delays
    catalogue: Catalogue

    def silences_ms(self) -> list[int]:
        """Give the silences that questions end in, in milliseconds."""
        return [round(self.delays.first_key * 1000)]
