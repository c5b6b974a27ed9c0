"""The announcement of an incident: nobody opens a dossier for now (D15)."""

from ivr.call import Call
from ivr.handlers.announce import Announce
from ivr.records import Outcome
from ivr.step import StepId


class Closed(Announce, handler="closed"):
    """Announces it; the call's record says that it met one."""

    def run(self, call: Call) -> StepId:
        """Say it, and go on to what stays open."""
        call.record.note(Outcome.CLOSED)
        return super().run(call)
