"""What is read of a dossier after login: one thing to say, or a list to go through (R38).

A handler of a service says how one item is spoken; what callers hear when there is none, or when
they may not hear it, and the keys to go through a list, are the same everywhere.
"""

from collections.abc import Sequence
from typing import ClassVar, Generic, TypeVar

from ivr.call import Call
from ivr.handlers.menu import KeyMenu
from ivr.step import PromptId, Step, StepId
from shared import dossier
from shared.dossier_data import Section
from shared.errors import NotAllowedError, NotYetError, UnavailableError

T = TypeVar("T")

NEXT, PREVIOUS = "1", "2"  # in a list, beside the keys of all menus


class Service(Step):
    """A step that reads something; its defaults are what the script need not say."""

    none: PromptId  # there is nothing
    not_allowed: PromptId = PromptId("acces-reserve")  # R29, R30
    not_yet: PromptId = PromptId("acces-plus-tard")  # R32
    unavailable: PromptId = PromptId("information-indisponible")
    not_identified: StepId = StepId("refused")

    def read(self, call: Call, section: Section[T]) -> T | StepId | None:
        """Read a section of the session's dossier; None once it was said why it can't be told.

        A call that is in no dossier goes to the step given.
        """
        session = call.session
        if session is None:
            return self.not_identified
        try:
            return call.dialogue.work(lambda: dossier.read(call.store, session, section))
        except NotYetError:
            call.dialogue.say(self.not_yet)
        except NotAllowedError:
            call.dialogue.say(self.not_allowed)
        except UnavailableError:
            call.dialogue.say(self.unavailable)
        return None


class ListService(Service, KeyMenu, Generic[T]):
    """A step that goes through the items of a section; `*` leads back, and so does the only one."""

    section: ClassVar[Section[tuple[T, ...]]]

    intro: PromptId | None = None  # before the first item
    forward: PromptId = PromptId("liste-suivant")
    backward: PromptId = PromptId("liste-precedent")
    press: PromptId = PromptId("tapez")
    keys_everywhere: tuple[PromptId, ...] = (PromptId("menu-touches-retour"),)
    noinput: PromptId = PromptId("rien-entendu")
    nomatch: PromptId = PromptId("choix-inconnu")
    adviser: StepId = StepId("adviser")
    given_up: StepId = StepId("adviser")

    def spoken(self, item: T) -> Sequence[str]:
        """Say one item."""
        raise NotImplementedError

    def kept(self, _call: Call, items: Sequence[T]) -> Sequence[T]:
        """Leave out what is not worth saying any more."""
        return items

    def run(self, call: Call) -> StepId:
        """Read, and say item by item."""
        told = self.read(call, self.section)
        if isinstance(told, StepId):
            return told
        return self.back if told is None else self.go_through(call, self.kept(call, told))

    def go_through(self, call: Call, items: Sequence[T]) -> StepId:
        """Say the items, as the caller goes on and back."""
        if not items:
            call.dialogue.say(self.none)
            return self.back
        if self.intro is not None:
            call.dialogue.say(self.intro)
        if len(items) == 1:
            call.dialogue.say(*self.spoken(items[0]))
            return self.back
        return self._browse(call, items)

    def _browse(self, call: Call, items: Sequence[T]) -> StepId:
        at: int | StepId = 0
        while not isinstance(at, StepId):
            moves = {}
            if at + 1 < len(items):
                moves[NEXT] = (self.forward, at + 1)
            if at > 0:
                moves[PREVIOUS] = (self.backward, at - 1)
            at = self.offer(call, moves, before=self.spoken(items[at]))
        return at
