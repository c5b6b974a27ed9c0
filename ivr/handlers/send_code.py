"""A one-time code by SMS, for who keyed a NIR (D10); 2 of them in a call (D05)."""

from typing import ClassVar

from ivr.call import Call
from ivr.records import Outcome
from ivr.step import PromptId, Step, StepId
from shared import one_time


class SendCode(Step, handler="send_code"):
    """Has it sent, and says what is true whatever comes of it (D04)."""

    identifies: ClassVar[bool] = True

    requested: PromptId
    next: StepId
    refused: StepId

    def run(self, call: Call) -> StepId:
        """Ask for it."""
        call.numbers_tried.add(call.nir)
        if len(call.numbers_tried) > call.store.rules.throttle.call_numbers:
            call.record.note(Outcome.REFUSED)
            return self.refused
        call.dialogue.work(lambda: one_time.request(call.store, call.nir, call.caisse, call.origin))
        call.dialogue.say(self.requested)
        return self.next
