"""Debts: what is left, and how much of it each month (R38)."""

from collections.abc import Sequence

from ivr import french
from ivr.handlers.service import ListService
from ivr.step import PromptId
from shared.dossier_data import DEBTS, Debt


class Debts(ListService[Debt], handler="debts"):
    """Goes through them."""

    section = DEBTS

    left: PromptId
    monthly: PromptId  # and then how much
    a_month: PromptId

    def spoken(self, item: Debt) -> Sequence[str]:
        """Say one."""
        debt = [f"dette-{item.code}", self.left, *french.amount(item.left)]
        if item.monthly is None:
            return debt
        return [*debt, self.monthly, *french.amount(item.monthly), self.a_month]
