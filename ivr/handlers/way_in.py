"""How callers say who they are: as the transition table has it at this instant (D10, R19)."""

from ivr.call import Call
from ivr.step import Step, StepId
from shared.rules import CredentialKind, Identifier


class WayIn(Step, handler="way_in"):
    """Asks for number and password until the cut-over, then for NIR and a code, if that is open."""

    number: StepId
    nir: StepId
    neither: StepId
    closed: StepId  # by an incident: told before anything is keyed in vain (D15)

    def run(self, call: Call) -> StepId:
        """Ask the incident switch, then the table."""
        if call.is_closed():
            return self.closed
        if call.may_log_in(CredentialKind.PASSWORD, Identifier.NUMBER):
            return self.number
        if call.may_log_in(CredentialKind.ONE_TIME, Identifier.NIR):
            return self.nir
        return self.neither
