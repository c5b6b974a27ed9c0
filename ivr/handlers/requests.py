"""What the Caf still needs: « La Caf vous demande » (R38, R32)."""

from collections.abc import Sequence

from ivr import french
from ivr.handlers.service import ListService
from ivr.step import PromptId
from shared.dossier_data import REQUESTS, Request


class Requests(ListService[Request], handler="requests"):
    """Goes through the documents, the most urgent first."""

    section = REQUESTS

    before: PromptId  # and then the day

    def spoken(self, item: Request) -> Sequence[str]:
        """Say one."""
        until = [self.before, *french.date(item.before)] if item.before else []
        return [f"document-{item.document}", *until]
