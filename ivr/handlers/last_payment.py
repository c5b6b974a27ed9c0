"""The last payment: its amount and its date (R38, D17)."""

from ivr import french
from ivr.call import Call
from ivr.handlers.service import Service
from ivr.step import PromptId, StepId
from shared.dossier_data import PAYMENTS


class LastPayment(Service, handler="last_payment"):
    """Says the last payment of the dossier that the session opens."""

    paid: PromptId
    next: StepId

    def run(self, call: Call) -> StepId:
        """Say it before the next question."""
        payments = self.read(call, PAYMENTS)
        if isinstance(payments, StepId):
            return payments
        if payments:
            last = payments[0]
            call.dialogue.say(self.paid, *french.amount(last.cents), *french.date(last.paid_on))
        elif payments is not None:
            call.dialogue.say(self.none)
        return self.next
