"""Hand-over to the advisers of the caisse: the dialplan does the rest."""

from typing import ClassVar

from ivr.call import Call
from ivr.records import Outcome
from ivr.step import PromptId, Step


class Adviser(Step, handler="adviser"):
    """Says so and leaves the call to the dialplan (extensions.conf, context `adviser`)."""

    parts: ClassVar[bool] = True

    prompts: tuple[PromptId, ...]

    def run(self, call: Call) -> None:
        """End this side of the call."""
        call.dialogue.say(*self.prompts)
        call.dialogue.announce()
        call.hand_over("adviser", f"caisse-{call.caisse}" if call.caisse else "caisse-inconnue")
        call.record.note(Outcome.TRANSFERRED)
