"""Something said, whatever is keyed, before the call goes on."""

from ivr.call import Call
from ivr.step import PromptId, Step, StepId


class Announce(Step, handler="announce"):
    """Says prompts to their end."""

    prompts: tuple[PromptId, ...]
    next: StepId

    def run(self, call: Call) -> StepId:
        """Say them."""
        call.dialogue.say(*self.prompts)
        call.dialogue.announce()
        return self.next
