"""Rights in progress, and why one has ended (R38)."""

from collections.abc import Sequence

from ivr import french
from ivr.handlers.service import ListService
from ivr.step import PromptId
from shared.dossier_data import RIGHTS, EntitledTo


class Rights(ListService[EntitledTo], handler="rights"):
    """Goes through them, those in progress first."""

    section = RIGHTS

    since: PromptId
    ended: PromptId

    def spoken(self, item: EntitledTo) -> Sequence[str]:
        """Say one."""
        right = [f"droit-{item.code}", self.since, *french.date(item.since)]
        if item.ended_on is None:
            return right
        return [*right, self.ended, *french.date(item.ended_on), f"motif-{item.reason}"]
