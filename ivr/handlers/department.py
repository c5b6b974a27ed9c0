"""Which caisse: from the département that the caller keys (D01, R34)."""

from ivr import announcements
from ivr.call import Call
from ivr.dialogue import Field, NoEntry
from ivr.handlers.menu import ADVISER, BACK, REPEAT
from ivr.step import PromptId, Question, Step, StepId

OVERSEAS = "97"  # waits for a third digit


class AskDepartment(Step, Question, handler="department"):
    """Asks for the département; a second question follows where it has several caisses."""

    unknown_choice: PromptId
    found: StepId
    given_up: StepId

    def run(self, call: Call) -> StepId:
        """Ask until a département with a caisse is keyed."""
        while (caisse := self._ask(call)) is NoEntry.STAR:
            continue
        if isinstance(caisse, NoEntry):
            return self.given_up
        call.caisse = call.record.caisse = caisse
        announcements.announce(call)
        return self.found

    def _ask(self, call: Call) -> str | NoEntry:
        script = call.script
        digits = call.dialogue.ask(
            self,
            Field(full=_full, known=lambda keyed: keyed in {*script.caisses, *script.departments}),
        )
        return self._one_of(call, digits) if digits in script.departments else digits

    def _one_of(self, call: Call, digits: str) -> str | NoEntry:
        """Ask for one of a département's caisses; `*` leads back to the département (D18)."""
        department = call.script.departments[digits]
        question = Question(
            ask=(department.prompt,), noinput=self.noinput, nomatch=self.unknown_choice
        )
        exits = {**department.choices, BACK: NoEntry.STAR, ADVISER: NoEntry.GIVEN_UP}
        while (key := call.dialogue.choose(question, {*exits, REPEAT})) == REPEAT:
            continue
        return key if isinstance(key, NoEntry) else exits[key]


def _full(digits: str) -> bool:
    return len(digits) == 3 or (len(digits) == 2 and digits != OVERSEAS)
