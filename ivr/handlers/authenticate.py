"""Is it the owner: the password, 3 tries and 2 numbers in a call (R04, D05, D07, D09, D18)."""

from ivr import french
from ivr.call import Call
from ivr.dialogue import Field, NoEntry
from ivr.records import Outcome
from ivr.secret_question import SecretQuestion
from ivr.step import PromptId, StepId
from shared import credentials
from shared.credentials import Expired, Login, Refusal
from shared.rules import PARIS, CredentialKind, Identifier
from shared.secret import Secret


class Authenticate(SecretQuestion, handler="authenticate"):
    """Reads the number back, asks for the password and opens the session."""

    way = (CredentialKind.PASSWORD, Identifier.NUMBER)
    field = Field(
        full=lambda digits: len(digits) == 8,
        valid=lambda digits: len(digits) == 4,  # the old code, ended with `#` (D09)
        leaves="*#",
        secret=True,
    )

    read_back: PromptId
    expired: PromptId  # and then the day (D07)
    renew: PromptId
    other_number: StepId
    forgotten: StepId

    def run(self, call: Call) -> StepId:
        """Ask until a session is open or the call's tries are spent."""
        numbers = call.numbers_tried | {call.number}
        if len(numbers) > call.store.rules.throttle.call_numbers:
            return self.refuse(call)
        answer = self.ask_for_secret(call, [self.read_back, *french.digits(call.number)])
        if not isinstance(answer, NoEntry):
            return answer
        exits = {NoEntry.STAR: self.other_number, NoEntry.HASH: self.forgotten}
        return exits.get(answer, self.given_up)

    def open(self, call: Call, secret: Secret) -> StepId | None:
        """Open the dossier's session; the owner of an expired password is told the day (D07)."""
        call.numbers_tried.add(call.number)
        login = Login(call.caisse, call.number, secret)
        match call.dialogue.work(lambda: credentials.verify(call.store, login, call.origin)):
            case Refusal.CLOSED:
                return self.closed
            case Refusal.REFUSED:
                call.dialogue.say(self.wrong)
                return None
            case Expired(since):
                day = french.date(since.astimezone(PARIS).date())
                call.dialogue.say(self.expired, *day, self.renew)
                return None
            case session:
                call.session = session
                call.record.note(Outcome.AUTHENTICATED)
                return self.authenticated
