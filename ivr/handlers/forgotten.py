"""« Mot de passe oublié » (R10, R11): confirmed by 1, since many end a number with `#` (D04)."""

from typing import ClassVar

from ivr.call import Call
from ivr.records import Outcome
from ivr.step import PromptId, Step, StepId
from shared import resets


class Forgotten(Step, handler="forgotten"):
    """Asks for a new password, and says what is true whatever comes of it (D04)."""

    identifies: ClassVar[bool] = True

    confirm: PromptId
    requested: PromptId
    back: StepId

    def run(self, call: Call) -> StepId:
        """Confirm, have it sent, and go back to the password: the one in force is valid (D03)."""
        if call.dialogue.confirm(self.confirm, "1"):
            call.numbers_tried.add(call.number)
            call.record.note(Outcome.RESET_REQUESTED)
            call.dialogue.work(
                lambda: resets.request_password(call.store, call.caisse, call.number, call.origin)
            )
            call.dialogue.say(self.requested)
        return self.back
