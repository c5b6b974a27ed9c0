"""Hand-over to the advisers of the line or the caisse: the dialplan does the rest."""

from typing import ClassVar

from ivr.call import Call
from ivr.records import Outcome
from ivr.step import PromptId, Step, StepId


class Adviser(Step, handler="adviser"):
    """Says so and leaves the call to the dialplan (extensions.conf, context `adviser`)."""

    parts: ClassVar[bool] = True

    prompts: tuple[PromptId, ...]
    closed: StepId  # when neither the platform nor one that takes its calls is open

    def run(self, call: Call) -> StepId | None:
        """End this side of the call, if somebody answers."""
        platform = self._platform(call)
        if platform is None:
            return self.closed
        call.dialogue.say(*self.prompts)
        call.dialogue.announce()
        call.hand_over("adviser", platform)
        call.record.note(Outcome.TRANSFERRED)
        return None

    def _platform(self, call: Call) -> str | None:
        """Give the platform that answers now; None, and whose hours to tell, if none does."""
        platforms = call.script.platforms
        name, answering = platforms.of(call.line.kind, call.caisse)
        own_hours = answering.hours
        while answering.hours is not None and not call.is_open(answering.hours):
            if answering.overflow is None:
                call.closed_hours = own_hours
                return None
            name, answering = answering.overflow, platforms.platforms[answering.overflow]
        return name
