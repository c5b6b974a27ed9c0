"""Who sees a choice of a menu, and when: asked anew at each visit (D10, D11)."""

from collections.abc import Sequence, Set
from typing import TypeVar

from ivr.call import Call
from ivr.hours import Period
from ivr.step import HoursId, ScriptTable
from shared import dossier
from shared.rights import Right
from shared.rules import CredentialKind, Identifier


class WayOfLogin(ScriptTable):
    """What the transition table is asked (D10)."""

    credential: CredentialKind
    identifier: Identifier


class Condition(Period):
    """What must hold, all of it; nothing, if nothing is said."""

    rights: tuple[Right, ...] | None = None  # all of them, of the session's holder
    credentials: tuple[CredentialKind, ...] | None = None  # one of them opened the session
    hours: HoursId | None = None
    login: WayOfLogin | None = None  # open on the telephone

    def excludes(self, other: "Condition") -> bool:
        """Say whether no caller ever sees both, whatever the rights, hours and ways of login."""
        if self.credentials is None or other.credentials is None:
            return not self.meets(other)
        return not self.meets(other) or set(self.credentials).isdisjoint(other.credentials)

    def holds(self, call: Call, rights: Set[Right]) -> bool:
        """Say whether a caller with these rights sees it now."""
        return (
            rights >= frozenset(self.rights or ())
            and (self.credentials is None or call.credential in self.credentials)
            and (self.hours is None or call.is_open(self.hours))
            and (
                self.login is None or call.may_log_in(self.login.credential, self.login.identifier)
            )
            and self.holds_at(call.store.clock(), call.caisse)
        )


C = TypeVar("C", bound=Condition)


def visible(call: Call, choices: Sequence[C]) -> list[C]:
    """Give those that the caller sees now; the rights are read if any of them asks for some."""
    session = call.session
    rights: Set[Right] = frozenset()
    if session is not None and any(one.rights for one in choices):
        rights = call.dialogue.work(lambda: dossier.rights_of(call.store, session))
    return [one for one in choices if one.holds(call, rights)]
