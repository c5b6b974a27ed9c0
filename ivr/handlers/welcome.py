"""The first words of a call; the line called says what follows (R34 to R37, D01)."""

from ivr import announcements
from ivr.call import Call
from ivr.step import Step, StepId


class Welcome(Step, handler="welcome"):
    """Greets the caller as the line does, and says what is announced."""

    def run(self, call: Call) -> StepId:
        """Greet, and go on where the line says, by its hours."""
        line = call.line
        if line.caisse is not None:
            call.caisse = call.record.caisse = line.caisse
        announcements.interrupt(call)
        call.dialogue.say(line.greeting)
        announcements.announce(call)
        if line.hours is None or line.closed is None or call.is_open(line.hours):
            return line.first_step
        call.closed_hours = line.hours
        return line.closed
