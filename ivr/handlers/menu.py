"""A menu: action before key, four choices at most; 0, 9 and `*` are the same everywhere (D18)."""

from pydantic import Field

from ivr.call import Call
from ivr.dialogue import NoEntry
from ivr.step import PromptId, Question, ScriptTable, Step, StepId

ADVISER, REPEAT, BACK = "0", "9", "*"


class Choice(ScriptTable):
    """One choice: what it is for, its key, where it leads."""

    key: str = Field(pattern="^[1-8]$")
    prompt: PromptId
    goto: StepId


class Menu(Step, handler="menu"):
    """Lets the caller choose the next step."""

    choices: tuple[Choice, ...] = Field(min_length=1, max_length=4)
    press: PromptId
    keys_everywhere: tuple[PromptId, ...]
    noinput: PromptId
    nomatch: PromptId
    adviser: StepId
    back: StepId
    given_up: StepId

    def run(self, call: Call) -> StepId:
        """Ask until there is a choice."""
        exits = {choice.key: choice.goto for choice in self.choices}
        exits |= {ADVISER: self.adviser, BACK: self.back}
        while (key := self._ask(call, {*exits, REPEAT})) == REPEAT:
            continue
        return self.given_up if isinstance(key, NoEntry) else exits[key]

    def _ask(self, call: Call, keys: set[str]) -> str | NoEntry:
        spoken = [
            prompt
            for choice in self.choices
            for prompt in (choice.prompt, self.press, f"chiffre-{choice.key}")
        ]
        question = Question(ask=self.keys_everywhere, noinput=self.noinput, nomatch=self.nomatch)
        return call.dialogue.choose(question, keys, spoken)
