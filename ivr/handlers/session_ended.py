"""What a caller hears whose session has ended in mid-call: why, and how to go on (D15)."""

from ivr.call import Call
from ivr.step import PromptId, Step, StepId


class SessionEnded(Step, handler="session_ended"):
    """Tells an incident from a session that is too old, or of a password that was replaced."""

    ended: PromptId
    again: StepId
    closed: StepId

    def run(self, call: Call) -> StepId:
        """Ask the incident switch."""
        if call.is_closed():
            return self.closed
        call.dialogue.forget_keys()
        call.dialogue.say(self.ended)
        return self.again
