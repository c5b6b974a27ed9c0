"""The last payment: its amount and its date (R38, D17)."""

from ivr import french
from ivr.call import Call
from ivr.step import PromptId, Step, StepId
from shared import dossier
from shared.errors import NotAllowedError


class LastPayment(Step, handler="last_payment"):
    """Says the last payment of the dossier that the session opens."""

    paid: PromptId
    none: PromptId
    not_allowed: PromptId  # R29
    next: StepId
    not_identified: StepId

    def run(self, call: Call) -> StepId:
        """Say it before the next question."""
        session = call.session
        if session is None:
            return self.not_identified
        try:
            payment = call.dialogue.work(lambda: dossier.last_payment(call.store, session))
        except NotAllowedError:
            call.dialogue.say(self.not_allowed)
            return self.next
        if payment is None:
            call.dialogue.say(self.none)
        else:
            spoken = french.amount(payment.cents) + french.date(payment.paid_on)
            call.dialogue.say(self.paid, *spoken)
        return self.next
