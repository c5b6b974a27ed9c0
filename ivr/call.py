"""One call: what its steps share."""

from dataclasses import dataclass, field

from ivr.agi import Agi
from ivr.dialogue import Dialogue
from ivr.records import Outcome, Recorder
from ivr.script import Line, Script
from ivr.step import StepId
from shared.errors import SessionEndedError
from shared.origin import Origin
from shared.rules import CredentialKind, Identifier
from shared.sessions import Session
from shared.store import Store
from shared.web_accounts import Sessions


@dataclass
class Call:
    """A call in progress. `number` and `nir` are what the caller keyed, not who the caller is."""

    agi: Agi
    dialogue: Dialogue
    script: Script
    store: Store
    record: Recorder
    line: Line
    origin: Origin
    caisse: str = ""
    number: str = field(default="", repr=False)
    nir: str = field(default="", repr=False)
    sessions: Sessions = ()  # a person's, to choose `session` from (D11)
    session: Session | None = None
    passwords_tried: int = 0
    numbers_tried: set[str] = field(default_factory=set, repr=False)

    def follow_script(self) -> None:
        """Go from step to step until one leads nowhere."""
        self._run_from(self.script.first_step)

    def apologise(self) -> None:
        """Go on where the script says after a failure of ours: never silence (design idea 10)."""
        self.record.note(Outcome.FAILED)
        self.dialogue.forget_keys()
        self._run_from(self.script.failure_step)

    def may_log_in(self, kind: CredentialKind, identifier: Identifier) -> bool:
        """Ask the transition table, as it is at this instant (D10)."""
        return self.store.rules.may_log_in(
            kind, identifier, self.origin.channel, self.store.clock()
        )

    def hand_over(self, where: str, platform: str = "") -> None:
        """Tell the dialplan what to do when this end of the call is over (extensions.conf)."""
        self.agi.set_variable("SVI_PLATFORM", platform)
        self.agi.set_variable("SVI_NEXT", where)

    def _run_from(self, first: StepId) -> None:
        step: StepId | None = first
        while step is not None:
            self.record.enter(step)
            step = self._run(step)
            self.record.leave(step)

    def _run(self, step: StepId) -> StepId | None:
        try:
            return self.script.steps[step].run(self)
        except SessionEndedError:  # by an incident (D15), or it is too old
            self.session, self.sessions = None, ()
            return self.script.session_ended_step
