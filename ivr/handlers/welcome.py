"""The first words of a call, and whether the line called names its caisse (D01)."""

from ivr.call import Call
from ivr.step import Step, StepId


class Welcome(Step, handler="welcome"):
    """Greets the caller as the line does."""

    caisse_known: StepId
    ask_department: StepId

    def run(self, call: Call) -> StepId:
        """Greet, and go on to the question that is left."""
        call.dialogue.say(call.line.greeting)
        if call.line.caisse is None:
            return self.ask_department
        call.caisse = call.record.caisse = call.line.caisse
        return self.caisse_known
