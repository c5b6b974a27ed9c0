"""Whose dossiers: the NIR with its key, after the cut-over (D10). Nothing is looked up here."""

from typing import ClassVar, cast

from ivr.call import Call
from ivr.dialogue import Field, NoEntry
from ivr.step import Question, Step, StepId
from shared import nir

FIELD = Field(
    full=lambda digits: len(digits) == 15,
    known=lambda digits: nir.from_keypad(digits) is not None,
    secret=True,
)


class IdentifyByNir(Step, Question, handler="identify_by_nir"):
    """Asks for the 13 digits and the key of 2."""

    identifies: ClassVar[bool] = True

    identified: StepId
    given_up: StepId

    def run(self, call: Call) -> StepId:
        """Keep the NIR keyed, out of the call's record (D13)."""
        digits = call.dialogue.ask(self, FIELD)
        if isinstance(digits, NoEntry):
            return self.given_up
        call.nir = cast(str, nir.from_keypad(digits))  # the field takes no other
        return self.identified
