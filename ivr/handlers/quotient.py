"""The quotient familial (R38)."""

from ivr import french
from ivr.call import Call
from ivr.handlers.service import Service
from ivr.step import PromptId, StepId
from shared.dossier_data import QUOTIENT


class FamilyQuotient(Service, handler="quotient"):
    """Says it, and of which month it is."""

    value: PromptId
    month: PromptId  # and then which
    next: StepId

    def run(self, call: Call) -> StepId:
        """Say it before the next question."""
        told = self.read(call, QUOTIENT)
        if isinstance(told, StepId):
            return told
        for one in told or ():
            month = (self.month, *french.month(one.month))
            call.dialogue.say(self.value, *french.cardinal(one.value), *month)
        if told == ():
            call.dialogue.say(self.none)
        return self.next
