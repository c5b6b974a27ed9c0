"""What a caller hears whose session has ended in mid-call: why, and how to go on (D15)."""

from ivr.call import Call
from ivr.step import PromptId, Step, StepId
from shared import incident


class SessionEnded(Step, handler="session_ended"):
    """Tells an incident from a session that is too old, or of a password that was replaced."""

    ended: PromptId
    again: StepId
    closed: StepId

    def run(self, call: Call) -> StepId:
        """Ask the incident switch."""
        channel = call.origin.channel
        if call.dialogue.work(lambda: incident.closed(call.store, channel, call.caisse)):
            return self.closed
        call.dialogue.forget_keys()
        call.dialogue.say(self.ended)
        return self.again
