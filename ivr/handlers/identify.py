"""Whose dossier: the numéro d'allocataire (D01). Nothing is looked up here (D07)."""

from typing import ClassVar

from ivr.call import Call
from ivr.dialogue import Field, NoEntry
from ivr.step import Question, Step, StepId

FIELD = Field(full=lambda digits: len(digits) == 7)


class Identify(Step, Question, handler="identify"):
    """Asks for the 7 digits of the number."""

    identifies: ClassVar[bool] = True

    identified: StepId
    given_up: StepId

    def run(self, call: Call) -> StepId:
        """Keep the number keyed; it is read back with the question for the password (D18)."""
        number = call.dialogue.ask(self, FIELD)
        if isinstance(number, NoEntry):
            return self.given_up
        call.number = number
        call.record.number_pseudonym = call.store.keys.pseudonym(f"{call.caisse}/{number}")
        return self.identified
