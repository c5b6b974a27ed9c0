"""What questions for a secret have in common: 3 tries in a call, whatever is asked (D05)."""

from collections.abc import Sequence
from typing import ClassVar

from ivr.call import Call
from ivr.dialogue import Field, NoEntry
from ivr.records import Outcome
from ivr.step import PromptId, Question, Step, StepId
from shared.rules import CredentialKind, Identifier
from shared.secret import Secret


class SecretQuestion(Step, Question):
    """Asks for a secret until it opens a dossier or the call's tries are spent."""

    identifies: ClassVar[bool] = True

    way: ClassVar[tuple[CredentialKind, Identifier]]  # its line of the transition table (D10)
    field: ClassVar[Field]

    wrong: PromptId
    authenticated: StepId
    changed: StepId  # the transition table has closed this way in meanwhile (D10)
    closed: StepId  # by an incident (D15)
    refused: StepId
    given_up: StepId

    def open(self, call: Call, secret: Secret) -> StepId | None:
        """Give the call what the secret opens, and the next step; None, said why, if nothing."""
        raise NotImplementedError

    def ask_for_secret(self, call: Call, before: Sequence[str] = ()) -> StepId | NoEntry:
        """Ask, with `before` at the head of each try's prompt; give the next step."""
        while call.passwords_tried < call.store.rules.throttle.call_passwords:
            answer = call.dialogue.ask(self, self.field, before)
            if isinstance(answer, NoEntry):
                return answer
            if not call.may_log_in(*self.way):
                return self.changed
            call.passwords_tried += 1
            if (step := self.open(call, Secret(answer))) is not None:
                return step
            call.dialogue.forget_keys()
        return self.refuse(call)

    def refuse(self, call: Call) -> StepId:
        """Let the call try nothing more."""
        call.dialogue.forget_keys()
        call.record.note(Outcome.REFUSED)
        return self.refused
