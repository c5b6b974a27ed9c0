"""Is it the person: the one-time code that came by SMS (D10, R15)."""

from ivr.call import Call
from ivr.dialogue import Field, NoEntry
from ivr.records import Outcome
from ivr.secret_question import SecretQuestion
from ivr.step import StepId
from shared import codes, one_time
from shared.credentials import Refusal
from shared.rules import CredentialKind, Identifier
from shared.secret import Secret


class EnterCode(SecretQuestion, handler="enter_code"):
    """Asks for the code and opens the person's sessions."""

    way = (CredentialKind.ONE_TIME, Identifier.NIR)
    field = Field(full=lambda digits: len(digits) == codes.DIGITS, leaves="*#", secret=True)

    other_number: StepId
    another_code: StepId

    def run(self, call: Call) -> StepId:
        """Ask until sessions are open or the call's tries are spent."""
        answer = self.ask_for_secret(call)
        if not isinstance(answer, NoEntry):
            return answer
        exits = {NoEntry.STAR: self.other_number, NoEntry.HASH: self.another_code}
        return exits.get(answer, self.given_up)

    def open(self, call: Call, secret: Secret) -> StepId | None:
        """Open a session in each of the person's dossiers (D11)."""
        nir, origin = call.nir, call.origin
        match call.dialogue.work(lambda: one_time.verify(call.store, nir, secret, origin)):
            case Refusal.CLOSED:
                return self.closed
            case Refusal.REFUSED:
                call.dialogue.say(self.wrong)
                return None
            case sessions:
                call.sessions = sessions
                call.record.note(Outcome.AUTHENTICATED)
                return self.authenticated
