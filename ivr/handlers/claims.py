"""Where claims stand (R38)."""

from collections.abc import Sequence

from ivr import french
from ivr.handlers.service import ListService
from ivr.step import PromptId
from shared.dossier_data import CLAIMS, Claim


class Claims(ListService[Claim], handler="claims"):
    """Goes through them, the newest first."""

    section = CLAIMS

    received: PromptId
    expected: PromptId  # and then the day

    def spoken(self, item: Claim) -> Sequence[str]:
        """Say one."""
        claim = [f"demande-{item.category}", self.received, *french.date(item.received_on)]
        answer = [self.expected, *french.date(item.expected_by)] if item.expected_by else []
        return [*claim, f"etat-{item.state}", *answer]
