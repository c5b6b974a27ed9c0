"""One call: what its steps share."""

from collections.abc import Set
from concurrent.futures import Future
from dataclasses import dataclass, field

from ivr.agi import Agi
from ivr.dialogue import Dialogue
from ivr.records import Outcome, Recorder
from ivr.script import Line, Script
from ivr.step import HoursId, Step, StepId
from shared import incident
from shared.errors import ClosedError, SessionEndedError
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
    first_step: StepId
    caisse: str = ""
    number: str = field(default="", repr=False)
    nir: str = field(default="", repr=False)
    sessions: Sessions = ()  # a person's, to choose `session` from (D11)
    session: Session | None = None
    passwords_tried: int = 0
    numbers_tried: set[str] = field(default_factory=set, repr=False)
    announced: set[str] = field(default_factory=set)  # once a call
    closed_hours: HoursId | None = None  # what the caller came to outside of
    step: Step | None = None  # where the call is now
    moving: "Future[bool] | None" = None  # whether an incident took it out of this session (D15)

    @property
    def channel(self) -> str:
        """Give Asterisk's name of the call."""
        return self.agi.env.get("agi_channel", "")

    def follow_script(self) -> None:
        """Go from step to step until one leads nowhere."""
        self._run_from(self.first_step)

    def apologise(self) -> None:
        """Go on where the script says after a failure of ours: never silence (design idea 10)."""
        self.record.note(Outcome.FAILED)
        self.dialogue.forget_keys()
        self._run_from(self.script.failure_step)

    @property
    def credential(self) -> CredentialKind | None:
        """Give what the caller got in with; a person's session is opened with a code (D10)."""
        if self.session is None:
            return None
        return self.session.proof.kind if self.session.proof else CredentialKind.ONE_TIME

    def is_open(self, hours: HoursId) -> bool:
        """Say whether these are opening hours, at this instant, in the call's caisse."""
        return self.script.hours[hours].is_open(self.store.clock(), self.caisse)

    def may_log_in(self, kind: CredentialKind, identifier: Identifier) -> bool:
        """Ask the transition table, as it is at this instant (D10)."""
        return self.store.rules.may_log_in(
            kind, identifier, self.origin.channel, self.store.clock()
        )

    def is_closed(self) -> bool:
        """Ask the incident switch whether nobody may log in to the call's caisse (D15)."""
        channel = self.origin.channel
        return self.dialogue.work(lambda: incident.closed(self.store, channel, self.caisse))

    def stopped_by(self, closed: Set[str]) -> bool:
        """Say whether these scopes, closed now, stop what the caller is at, who is to be moved."""
        if self.moving and (not self.moving.done() or self.moving.result()):
            return False
        scopes = incident.scopes(self.origin.channel, self.caisse)
        if not self.caisse or self.step is None or closed.isdisjoint(scopes):
            return False
        opened = self.session is not None or bool(self.sessions)
        return self.step.identifies or (opened and not self.step.parts)

    def begin_move(self) -> "Future[bool]":
        """Hold the call in its AGI session until the result is set: whether it was moved."""
        self.moving = Future()
        return self.moving

    def hand_over(self, where: str, platform: str = "") -> None:
        """Tell the dialplan what to do when this end of the call is over (extensions.conf)."""
        self.agi.set_variable("SVI_PLATFORM", platform)
        self.agi.set_variable("SVI_NEXT", where)

    def _run_from(self, first: StepId) -> None:
        step: StepId | None = first
        while step is not None:
            self.record.enter(step)
            self.step = self.script.steps[step]
            step = self._run(self.step)
            self.record.leave(step)

    def _run(self, step: Step) -> StepId | None:
        try:
            return step.run(self)
        except (SessionEndedError, ClosedError):  # by an incident (D15), or it is too old
            self.session, self.sessions = None, ()
            return self.script.session_ended_step
