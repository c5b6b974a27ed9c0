"""Alerts, said right after login: what is to be done, and until when (R38)."""

from collections.abc import Sequence
from contextlib import suppress
from itertools import islice

from pydantic import Field

from ivr import french
from ivr.call import Call
from ivr.step import PromptId, Step, StepId
from shared import dossier
from shared.dossier_data import ALERTS, MOST_TOGETHER, Alert
from shared.errors import NotAllowedError, UnavailableError
from shared.rights import Right
from shared.rules import PARIS
from shared.sessions import Session
from shared.store import Store


class Alerts(Step, handler="alerts"):
    """Says the most urgent; nobody asked, so nothing is said where there is nothing to say."""

    before: PromptId  # and then the day
    most: int = Field(gt=0, le=MOST_TOGETHER)
    next: StepId

    def run(self, call: Call) -> StepId:
        """Say them before the next question."""
        session = call.session
        if session is None:
            return self.next
        told = call.dialogue.work(lambda: _told(call.store, session))
        today = call.store.clock().astimezone(PARIS).date()
        due = (one for one in told if one.before is None or one.before >= today)
        for alert in islice(due, self.most):
            until = [self.before, *french.date(alert.before)] if alert.before else []
            call.dialogue.say(f"alerte-{alert.code}", *until)
        return self.next


def _told(store: Store, session: Session) -> Sequence[Alert]:
    """Read them if that is allowed: it was not asked for, so there is no refusal to audit."""
    with suppress(NotAllowedError, UnavailableError):
        if Right.READ_ALERTS in dossier.rights_of(store, session):
            return dossier.read(store, session, ALERTS)
    return ()
