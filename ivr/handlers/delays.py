"""How far the caisse has got with what it received: the same for all its callers (R38)."""

from ivr import french
from ivr.call import Call
from ivr.handlers.service import Service
from ivr.step import PromptId, StepId
from shared import processing_delays
from shared.errors import UnavailableError


class Delays(Service, handler="delays"):
    """Says them by category."""

    until: PromptId  # between the first day and the last
    next: StepId

    def run(self, call: Call) -> StepId:
        """Say them before the next question."""
        try:
            told = call.dialogue.work(lambda: processing_delays.of_caisse(call.store, call.caisse))
        except UnavailableError:
            call.dialogue.say(self.unavailable)
            return self.next
        for one in told:
            days = (*french.date(one.first), self.until, *french.date(one.last))
            call.dialogue.say(f"traitement-{one.category}", *days)
        if not told:
            call.dialogue.say(self.none)
        return self.next
