"""A menu: action before key, four choices at most; 0, 9 and `*` are the same everywhere (D18)."""

from collections.abc import Mapping
from typing import TypeVar

from pydantic import Field

from ivr.call import Call
from ivr.dialogue import NoEntry
from ivr.step import PromptId, Question, ScriptTable, Step, StepId

ADVISER, REPEAT, BACK = "0", "9", "*"
MOST_CHOICES = 4

T = TypeVar("T")


class Choice(ScriptTable):
    """One choice: what it is for, its key, where it leads."""

    key: str = Field(pattern="^[1-8]$")
    prompt: PromptId
    goto: StepId


class KeyMenu(Step):
    """What all menus say and understand."""

    press: PromptId
    keys_everywhere: tuple[PromptId, ...]
    noinput: PromptId
    nomatch: PromptId
    adviser: StepId
    back: StepId
    given_up: StepId

    def offer(self, call: Call, choices: Mapping[str, tuple[str, T]]) -> T | StepId:
        """Ask until there is a choice; `choices` has by key what is said of it, and it."""
        exits: dict[str, T | StepId] = {key: choice for key, (_, choice) in choices.items()}
        exits |= {ADVISER: self.adviser, BACK: self.back}
        spoken = [
            prompt
            for key, (action, _) in choices.items()
            for prompt in (action, self.press, f"chiffre-{key}")
        ]
        question = Question(ask=self.keys_everywhere, noinput=self.noinput, nomatch=self.nomatch)
        while (key := call.dialogue.choose(question, {*exits, REPEAT}, spoken)) == REPEAT:
            continue
        return self.given_up if isinstance(key, NoEntry) else exits[key]


class Menu(KeyMenu, handler="menu"):
    """Lets the caller choose the next step."""

    choices: tuple[Choice, ...] = Field(min_length=1, max_length=MOST_CHOICES)

    def run(self, call: Call) -> StepId:
        """Ask until there is a choice."""
        return self.offer(call, {one.key: (one.prompt, one.goto) for one in self.choices})
