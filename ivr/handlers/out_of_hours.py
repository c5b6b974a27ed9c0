"""Nobody answers now: when somebody does, and what stays open (R35, R36)."""

from ivr import french
from ivr.call import Call
from ivr.records import Outcome
from ivr.step import PromptId, Step, StepId


class OutOfHours(Step, handler="out_of_hours"):
    """Says the opening hours that the caller came to outside of, and the next opening."""

    hours: PromptId  # and then the usual week
    paris: PromptId  # where other clocks are in use than those of the hours
    opening: PromptId  # and then the day and the time
    next: StepId

    def run(self, call: Call) -> StepId:
        """Say them before what follows."""
        call.record.note(Outcome.CLOSED)
        if call.closed_hours is not None:
            hours = call.script.hours[call.closed_hours]
            call.dialogue.say(self.hours, *hours.spoken())
            if hours.is_of_paris_elsewhere(call.caisse):
                call.dialogue.say(self.paris)
            opening = hours.next_opening(call.store.clock(), call.caisse)
            if opening is not None:
                time = french.clock_time(60 * opening.hour + opening.minute)
                day = french.weekday_date(opening.date())
                call.dialogue.say(self.opening, *day, "a", *time)
        return self.next
