"""Appointments to come (R38)."""

from collections.abc import Sequence

from ivr import french
from ivr.call import Call
from ivr.handlers.service import ListService
from ivr.step import PromptId
from shared.dossier_data import APPOINTMENTS, Appointment


class Appointments(ListService[Appointment], handler="appointments"):
    """Goes through them, the next one first."""

    section = APPOINTMENTS

    appointment: PromptId

    def kept(self, call: Call, items: Sequence[Appointment]) -> Sequence[Appointment]:
        """Leave out those that are over."""
        return [one for one in items if one.at >= call.store.clock()]

    def spoken(self, item: Appointment) -> Sequence[str]:
        """Say one, in the time of the place that told it."""
        day = french.date(item.at.date())
        time = french.clock_time(60 * item.at.hour + item.at.minute)
        return [self.appointment, *day, "a", *time, f"lieu-{item.place}"]
