"""Payments, the newest first: how much, when, to whom, and what was kept back (R38)."""

from collections.abc import Sequence

from ivr import french
from ivr.handlers.service import ListService
from ivr.step import PromptId
from shared.dossier_data import PAYMENTS, Payment


class Payments(ListService[Payment], handler="payments"):
    """Goes through them."""

    section = PAYMENTS

    paid: PromptId
    withheld: PromptId

    def spoken(self, item: Payment) -> Sequence[str]:
        """Say one: its payee and why something was kept back are prompts of their codes."""
        kept_back = (
            prompt
            for one in item.withheld
            for prompt in (self.withheld, *french.amount(one.cents), f"retenue-{one.reason}")
        )
        paid = (self.paid, *french.amount(item.cents), *french.date(item.paid_on))
        return [*paid, f"destinataire-{item.payee}", *kept_back]
