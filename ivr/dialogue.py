"""The dialogue with a caller: say, ask, choose (D18), on a telephone that only has keys.

What is said waits for the next question and is played with it, in one command: any key stops it,
and there is no instant in which a key could be lost. Keys typed ahead answer questions before
they are heard. They are nobody's business until a question takes them.
"""

from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, TypeVar

from ivr.agi import Agi
from ivr.prompts import Catalogue, silence_id
from ivr.script import Delays
from ivr.step import PromptId, Question

T = TypeVar("T")

WORK_SECONDS = 60.0  # far beyond every time-out of the store, so never met


class NoEntry(StrEnum):
    """What a question got instead of an answer."""

    STAR = "*"  # on an empty field that `*` leaves
    HASH = "#"  # on an empty field that `#` leaves
    NOINPUT = "noinput"  # no key in time
    NOMATCH = "nomatch"  # keys that are no answer, or not all of one in time
    GIVEN_UP = "given-up"  # neither, after the last try


@dataclass(frozen=True)
class Field:
    """The shape of what is keyed."""

    full: Callable[[str], bool]  # the field ends here, without `#`
    valid: Callable[[str], bool] = lambda _digits: False  # `#` may end the field here
    known: Callable[[str], bool] = lambda _digits: True  # the field's value is one there is
    leaves: str = ""  # which of `*` and `#` leave the field while it is empty
    secret: bool = False


class Trace(Protocol):
    """Watches the dialogue, for who tries the script; secret keys come as `*`."""

    def said(self, text: str) -> None:
        """Hear what is played to the caller."""

    def keyed(self, keys: str) -> None:
        """See what a question took."""

    def ended(self, outcome: str) -> None:
        """Learn how the call ended, when nothing more of it will come."""


class Dialogue:
    """One caller's dialogue."""

    def __init__(
        self,
        agi: Agi,
        catalogue: Catalogue,
        delays: Delays,
        backend: Executor,
        trace: Trace | None = None,
    ) -> None:
        self._agi = agi
        self._catalogue = catalogue
        self._delays = delays
        self._backend = backend
        self._trace = trace
        self._pending: list[str] = []

    def say(self, *prompts: str) -> None:
        """Say this before the next question."""
        self._pending += prompts

    def announce(self) -> None:
        """Say now what is pending, to the end, whatever is keyed."""
        if self._pending:
            self._agi.announce(self._files(self._take_pending()))

    def forget_keys(self) -> None:
        """Drop what was typed ahead."""
        self._agi.typed.clear()

    def ask(self, question: Question, field: Field, before: Sequence[str] = ()) -> str | NoEntry:
        """Ask for the digits of a field; `before` is said at the head of each try's prompt."""
        for prompt in self._prompt_of_each_try(question):
            self.say(*before, prompt)
            answer = self._read(field)
            if not self._comment(question, answer):
                self._keyed(answer, secret=field.secret and not isinstance(answer, NoEntry))
                return answer
        return NoEntry.GIVEN_UP

    def choose(
        self, question: Question, keys: Collection[str], before: Sequence[str] = ()
    ) -> str | NoEntry:
        """Ask for one key out of `keys`."""
        for prompt in self._prompt_of_each_try(question):
            self.say(*before, prompt)
            key = self._first_key()
            answer = key if key in keys else NoEntry.NOMATCH if key else NoEntry.NOINPUT
            if not self._comment(question, answer):
                self._keyed(answer)
                return answer
        return NoEntry.GIVEN_UP

    def confirm(self, prompt: str, key: str) -> bool:
        """Ask for `key`; any other key answers no and goes to the next question."""
        self.say(prompt)
        typed = self._first_key()
        if typed == key:
            self._keyed(typed)
            return True
        if typed:
            self._agi.typed.appendleft(typed)
        return False

    def work(self, task: Callable[[], T]) -> T:
        """Run a task of the store; keys typed meanwhile are kept.

        A hang-up is raised when the task is done, so that nothing of it is left behind.
        """
        future = self._backend.submit(task)
        try:
            while not future.done():
                self._agi.wait_key(WORK_SECONDS, until=future)
        finally:
            self._agi.join(future)
        return future.result()

    def ended(self, outcome: str) -> None:
        """Let a watcher know that the call is over."""
        if self._trace:
            self._trace.ended(outcome)

    def _prompt_of_each_try(self, question: Question) -> list[PromptId]:
        """Give a prompt for each try; the last one serves the tries beyond it."""
        return [question.ask[min(n, len(question.ask) - 1)] for n in range(self._delays.tries)]

    def _comment(self, question: Question, answer: str | NoEntry) -> bool:
        """Have it said, before the next try, that there was no answer; True if so."""
        if answer is NoEntry.NOINPUT:
            self.say(question.noinput)
        elif answer is NoEntry.NOMATCH:
            self.say(question.nomatch)
        else:
            return False
        return True

    def _read(self, field: Field) -> str | NoEntry:
        """Read one try of a field."""
        key, digits = self._first_key(), ""
        while key:
            if key in field.leaves and not digits:
                return NoEntry(key)
            if key == "#" and digits:
                return digits if field.valid(digits) else NoEntry.NOMATCH
            digits = "" if key in "*#" else digits + key
            if field.full(digits):
                return digits if field.known(digits) else NoEntry.NOMATCH
            key = self._next_key()
        return NoEntry.NOMATCH if digits else NoEntry.NOINPUT

    def _first_key(self) -> str:
        """Play what is pending, unless keys are there already; give the first key or ""."""
        prompts = self._take_pending()
        if not self._agi.typed:
            silence = silence_id(round(self._delays.first_key * 1000))
            self._agi.play([*self._files(prompts), f"svi/{silence}"])
        return self._taken()

    def _next_key(self) -> str:
        if not self._agi.typed:
            self._agi.wait_key(self._delays.between_keys)
        return self._taken()

    def _taken(self) -> str:
        return self._agi.typed.popleft() if self._agi.typed else ""

    def _take_pending(self) -> list[str]:
        pending, self._pending = self._pending, []
        return pending

    def _files(self, prompts: Sequence[str]) -> list[str]:
        if self._trace:
            self._trace.said(self._catalogue.text(prompts))
        return [f"svi/{prompt}" for prompt in prompts]

    def _keyed(self, keys: str, *, secret: bool = False) -> None:
        if self._trace:
            self._trace.keyed("*" * len(keys) if secret else keys)
