"""Certificates that can be had (R38)."""

from collections.abc import Sequence

from ivr import french
from ivr.handlers.service import ListService
from ivr.step import PromptId
from shared.dossier_data import CERTIFICATES, Certificate


class Certificates(ListService[Certificate], handler="certificates"):
    """Goes through them."""

    section = CERTIFICATES

    newest: PromptId  # and then the month

    def spoken(self, item: Certificate) -> Sequence[str]:
        """Say one."""
        return [f"attestation-{item.kind}", self.newest, *french.month(max(item.months))]
