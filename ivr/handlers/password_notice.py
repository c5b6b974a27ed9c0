"""What the owner of a password is told after getting in with it (R03, R07, R09)."""

from collections.abc import Sequence
from datetime import timedelta

from pydantic import PositiveInt

from ivr import french
from ivr.call import Call
from ivr.step import PromptId, Step, StepId
from shared.rules import PARIS, CredentialKind
from shared.sessions import Proof


class PasswordNotice(Step, handler="password_notice"):
    """Invites to replace a 4-digit code or a provisional password; announces a near end."""

    code: PromptId  # R03
    provisional: PromptId  # and then the day it ends (R09)
    change: PromptId
    ending: PromptId  # and then the day it ends (R07)
    renew: PromptId
    days: PositiveInt  # how long before its end that is announced
    next: StepId

    def run(self, call: Call) -> StepId:
        """Say it before the next question."""
        proof = call.session.proof if call.session else None
        if proof is not None:
            call.dialogue.say(*self._notice(call, proof))
        return self.next

    def _notice(self, call: Call, proof: Proof) -> Sequence[str]:
        if proof.kind is CredentialKind.CODE:
            return [self.code]
        if proof.expires_at is None:
            return []
        day = french.date(proof.expires_at.astimezone(PARIS).date())
        if proof.provisional:
            return [self.provisional, *day, self.change]
        if proof.expires_at - call.store.clock() <= timedelta(days=self.days):
            return [self.ending, *day, self.renew]
        return []
