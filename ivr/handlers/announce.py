"""Something said, whatever is keyed, before the call goes on."""

from ivr.call import Call
from ivr.step import PromptId, Step, StepId


class Announce(Step, handler="announce"):
    """Says prompts to their end; what was typed ahead was meant for something else."""

    prompts: tuple[PromptId, ...]
    next: StepId

    def run(self, call: Call) -> StepId:
        """Say them."""
        call.dialogue.say(*self.prompts)
        call.dialogue.announce()
        call.dialogue.forget_keys()
        return self.next
