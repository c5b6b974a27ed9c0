"""Letters that nobody has read yet (R38)."""

from collections.abc import Sequence

from ivr import french
from ivr.handlers.service import ListService
from ivr.step import PromptId
from shared.dossier_data import LETTERS, UnreadLetter


class Letters(ListService[UnreadLetter], handler="letters"):
    """Goes through them, the newest first."""

    section = LETTERS

    sent: PromptId  # and then the day

    def spoken(self, item: UnreadLetter) -> Sequence[str]:
        """Say one."""
        return [f"courrier-{item.code}", self.sent, *french.date(item.sent_on)]
