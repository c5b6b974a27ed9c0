"""Which of a person's dossiers: by its caisse, if there are several (D11)."""

from collections.abc import Sequence

from ivr.call import Call
from ivr.handlers.menu import MOST_CHOICES, KeyMenu
from ivr.step import PromptId, StepId
from shared import dossier


def dossier_prompt(caisse: str) -> str:
    """Give the id of « Pour votre dossier de la Caf … »."""
    return f"dossier-{caisse.lower()}"


class ChooseDossier(KeyMenu, handler="choose_dossier"):
    """Goes on with one dossier, which the caller chooses if there are several."""

    another: PromptId  # of the same caisse
    next: StepId

    def run(self, call: Call) -> StepId:
        """Ask for as many as a menu takes, the newest first; advisers know of others."""
        sessions = call.sessions[:MOST_CHOICES]
        caisses = call.dialogue.work(lambda: [dossier.caisse(call.store, one) for one in sessions])
        chosen = self._choose(call, caisses) if len(sessions) > 1 else 0
        if isinstance(chosen, StepId):
            return chosen
        call.session = sessions[chosen]
        call.caisse = call.record.caisse = caisses[chosen]
        return self.next

    def _choose(self, call: Call, caisses: Sequence[str]) -> int | StepId:
        return self.offer(
            call,
            {
                str(position + 1): (self._said(caisse, caisses[:position]), position)
                for position, caisse in enumerate(caisses)
            },
        )

    def _said(self, caisse: str, said_before: Sequence[str]) -> str:
        return self.another if caisse in said_before else dossier_prompt(caisse)
