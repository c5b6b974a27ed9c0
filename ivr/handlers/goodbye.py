"""The last words of a call."""

from typing import ClassVar

from ivr.call import Call
from ivr.step import PromptId, Step


class Goodbye(Step, handler="goodbye"):
    """Says goodbye and has the dialplan hang up."""

    parts: ClassVar[bool] = True

    prompts: tuple[PromptId, ...]

    def run(self, call: Call) -> None:
        """End the call."""
        call.dialogue.say(*self.prompts)
        call.dialogue.announce()
        call.hand_over("goodbye")
