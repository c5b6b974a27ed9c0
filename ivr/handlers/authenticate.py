"""Is it the owner: the password, 3 tries and 2 numbers in a call (R04, D05, D07, D09, D18)."""

from ivr import french
from ivr.call import Call
from ivr.dialogue import Field, NoEntry
from ivr.records import Outcome
from ivr.step import PromptId, Question, Step, StepId
from shared import credentials
from shared.credentials import Login, Refusal
from shared.secret import Secret

FIELD = Field(
    full=lambda digits: len(digits) == 8,
    valid=lambda digits: len(digits) == 4,  # the old code, ended with `#` (D09)
    leaves="*#",
    secret=True,
)


class Authenticate(Step, Question, handler="authenticate"):
    """Reads the number back, asks for the password and opens the session."""

    read_back: PromptId
    wrong: PromptId
    expired: PromptId
    authenticated: StepId
    other_number: StepId
    forgotten: StepId
    refused: StepId
    given_up: StepId

    def run(self, call: Call) -> StepId:
        """Ask until a session is open or the call's tries are spent."""
        limits = call.store.rules.throttle
        if len(call.numbers_tried | {call.number}) > limits.call_numbers:
            return self._refuse(call)
        while call.passwords_tried < limits.call_passwords:
            answer = call.dialogue.ask(self, FIELD, [self.read_back, *french.digits(call.number)])
            if isinstance(answer, NoEntry):
                return self._leave(answer)
            if self._verified(call, Secret(answer)):
                return self.authenticated
        return self._refuse(call)

    def _verified(self, call: Call, password: Secret) -> bool:
        call.passwords_tried += 1
        call.numbers_tried.add(call.number)
        login = Login(call.caisse, call.number, password)
        result = call.dialogue.work(lambda: credentials.verify(call.store, login, call.origin))
        if isinstance(result, Refusal):
            call.dialogue.forget_keys()
            call.dialogue.say(self.expired if result is Refusal.EXPIRED else self.wrong)
            return False
        call.session = result
        call.record.note(Outcome.AUTHENTICATED)
        return True

    def _refuse(self, call: Call) -> StepId:
        call.dialogue.forget_keys()
        call.record.note(Outcome.REFUSED)
        return self.refused

    def _leave(self, answer: NoEntry) -> StepId:
        return {NoEntry.STAR: self.other_number, NoEntry.HASH: self.forgotten}.get(
            answer, self.given_up
        )
