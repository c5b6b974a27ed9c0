"""The call script as the program knows it: lines, steps, caisses and delays, already checked."""

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import PositiveFloat, PositiveInt

from ivr.prompts import Catalogue
from ivr.step import CaisseId, PromptId, ScriptTable, Step, StepId


class Delays(ScriptTable):
    """How long the caller may take, in seconds, and how often a question is asked (D18)."""

    first_key: PositiveFloat
    between_keys: PositiveFloat
    tries: PositiveInt


class Line(ScriptTable):
    """A number that people call."""

    greeting: PromptId
    caisse: CaisseId | None = None


class Department(ScriptTable):
    """A département with several caisses: the question that tells them apart."""

    prompt: PromptId
    choices: dict[str, CaisseId]


@dataclass(frozen=True)
class Script:
    """A checked call script."""

    first_step: StepId
    failure_step: StepId
    session_ended_step: StepId
    lines: Mapping[str, Line]
    caisses: Mapping[str, str]
    departments: Mapping[str, Department]
    steps: Mapping[str, Step]
    delays: Delays
    catalogue: Catalogue

    def silences_ms(self) -> list[int]:
        """Give the silences that questions end in, in milliseconds."""
        return [round(self.delays.first_key * 1000)]
