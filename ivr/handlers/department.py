"""Which caisse: from the département that the caller keys (D01, R34)."""

from ivr.call import Call
from ivr.dialogue import Field, NoEntry
from ivr.step import PromptId, Question, Step, StepId

OVERSEAS = "97"  # waits for a third digit


class AskDepartment(Step, Question, handler="department"):
    """Asks for the département; a second question follows where it has several caisses."""

    unknown_choice: PromptId
    found: StepId
    given_up: StepId

    def run(self, call: Call) -> StepId:
        """Ask until a département with a caisse is keyed."""
        script = call.script
        digits = call.dialogue.ask(
            self,
            Field(full=_full, known=lambda keyed: keyed in {*script.caisses, *script.departments}),
        )
        caisse = self._one_of(call, digits) if digits in script.departments else digits
        if isinstance(caisse, NoEntry):
            return self.given_up
        call.caisse = call.record.caisse = caisse
        return self.found

    def _one_of(self, call: Call, digits: str) -> str | NoEntry:
        department = call.script.departments[digits]
        question = Question(
            ask=(department.prompt,), noinput=self.noinput, nomatch=self.unknown_choice
        )
        key = call.dialogue.choose(question, department.choices)
        return key if isinstance(key, NoEntry) else department.choices[key]


def _full(digits: str) -> bool:
    return len(digits) == 3 or (len(digits) == 2 and digits != OVERSEAS)
