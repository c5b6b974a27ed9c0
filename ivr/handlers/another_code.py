"""Another one-time code: confirmed by a second `#`, since many end a number with one (D04)."""

from typing import ClassVar

from ivr.call import Call
from ivr.step import PromptId, Step, StepId


class AnotherCode(Step, handler="another_code"):
    """Asks whether the code is to be sent again; 1 would not do, for a code may begin with it."""

    identifies: ClassVar[bool] = True

    confirm: PromptId
    confirmed: StepId
    back: StepId

    def run(self, call: Call) -> StepId:
        """Ask; any other key is the first of the code."""
        return self.confirmed if call.dialogue.confirm(self.confirm, "#") else self.back
