"""A menu: action before key, four choices at most; 0, 9 and `*` are the same everywhere (D18)."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TypeVar

from pydantic import Field

from ivr.call import Call
from ivr.conditions import Condition, visible
from ivr.dialogue import NoEntry
from ivr.step import PromptId, Question, Step, StepId

ADVISER, REPEAT, BACK = "0", "9", "*"
MOST_CHOICES = 4  # at a time
MOST_EVER = 16

T = TypeVar("T")


class Choice(Condition):
    """One choice: what it is for, its key, where it leads; who sees it, and when."""

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

    def offer(
        self, call: Call, choices: Mapping[str, tuple[str, T]], before: Sequence[str] = ()
    ) -> T | StepId:
        """Ask until there is a choice; `choices` has by key what is said of it, and it."""
        exits: dict[str, T | StepId] = {key: choice for key, (_, choice) in choices.items()}
        exits |= {ADVISER: self.adviser, BACK: self.back}
        spoken = [
            *before,
            *(
                prompt
                for key, (action, _) in choices.items()
                for prompt in (action, self.press, f"chiffre-{key}")
            ),
        ]
        question = Question(ask=self.keys_everywhere, noinput=self.noinput, nomatch=self.nomatch)
        while (key := call.dialogue.choose(question, {*exits, REPEAT}, spoken)) == REPEAT:
            continue
        return self.given_up if isinstance(key, NoEntry) else exits[key]


class Menu(KeyMenu, handler="menu"):
    """Lets the caller choose the next step."""

    choices: tuple[Choice, ...] = Field(min_length=1, max_length=MOST_EVER)

    def run(self, call: Call) -> StepId:
        """Ask until there is a choice; who sees none goes to an adviser."""
        choices = visible(call, self.choices)
        if not choices:
            return self.adviser
        return self.offer(call, {one.key: (one.prompt, one.goto) for one in choices})

    def is_too_long(self) -> bool:
        """Say whether a caller may see more choices at a time than one remembers (D18)."""
        return any(map(_together, combinations(self.choices, MOST_CHOICES + 1)))

    def shared_key(self) -> int | None:
        """Give the place of the first choice whose key another one has at the same time."""
        for place, choice in enumerate(self.choices):
            for earlier in self.choices[:place]:
                if earlier.key == choice.key and not earlier.excludes(choice):
                    return place
        return None


def _together(choices: Sequence[Choice]) -> bool:
    """Say whether a caller may see all of these at a time."""
    return not any(one.excludes(other) for one, other in combinations(choices, 2))
