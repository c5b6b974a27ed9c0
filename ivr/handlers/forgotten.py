"""« Mot de passe oublié » (R10, R11): confirmed by 1, since many end a number with `#` (D04)."""

from ivr.call import Call
from ivr.step import PromptId, Step, StepId


class Forgotten(Step, handler="forgotten"):
    """Says, the same to every caller, that the service is not open yet."""

    confirm: PromptId
    not_open: PromptId
    back: StepId

    def run(self, call: Call) -> StepId:
        """Confirm, answer, and go back to the password."""
        if call.dialogue.confirm(self.confirm, "1"):
            call.dialogue.say(self.not_open)
        return self.back
