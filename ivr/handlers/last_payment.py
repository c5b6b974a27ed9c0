"""The last payment: its amount and its date (R38, D17)."""

from ivr import french
from ivr.call import Call
from ivr.step import PromptId, Step, StepId
from shared import dossier


class LastPayment(Step, handler="last_payment"):
    """Says the last payment of the dossier that the session opens."""

    paid: PromptId
    none: PromptId
    next: StepId
    not_identified: StepId

    def run(self, call: Call) -> StepId:
        """Say it before the next question."""
        session = call.session
        if session is None:
            return self.not_identified
        payment = call.dialogue.work(lambda: dossier.last_payment(call.store, session))
        if payment is None:
            call.dialogue.say(self.none)
        else:
            spoken = french.amount(payment.cents) + french.date(payment.paid_on)
            call.dialogue.say(self.paid, *spoken)
        return self.next
