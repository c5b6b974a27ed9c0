"""How long a dossier's password lives: one table, by what it was issued for (R07, R09, D02)."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto

from shared.clock import DAY
from shared.models import CredentialOrigin
from shared.rules import PARIS, Channel, CredentialKind, Identifier, Rules

YEAR = 365 * DAY
PHONE_LOGIN = (CredentialKind.PASSWORD, Identifier.NUMBER, Channel.VOICE)


class Life(Enum):
    """How long, from the instant it is issued."""

    PROVISIONAL = auto()  # 2 months; to be changed at the first login on the web (R09)
    FINAL = auto()  # until the telephone's cut-over, 2 years at most (D02); before it, provisional
    OWN = auto()  # 2 years: its owner chose it (R07)
    ENDLESS = auto()


LIVES: Mapping[CredentialOrigin, Life] = {
    CredentialOrigin.OWNER: Life.OWN,
    CredentialOrigin.FORGOTTEN: Life.FINAL,
    CredentialOrigin.INCIDENT: Life.FINAL,
    CredentialOrigin.REGISTRATION: Life.PROVISIONAL,
    CredentialOrigin.AGENT: Life.PROVISIONAL,
    CredentialOrigin.SEPARATION: Life.PROVISIONAL,
    CredentialOrigin.MUTATION: Life.PROVISIONAL,
    CredentialOrigin.IMPORTED: Life.OWN,
    CredentialOrigin.WEB: Life.OWN,
    CredentialOrigin.GIVEN: Life.ENDLESS,
}


@dataclass(frozen=True)
class Term:
    """What a password is issued for."""

    provisional: bool
    expires_at: datetime | None


def term(
    rules: Rules, origin: CredentialOrigin, issued_at: datetime, *, provisional: bool = False
) -> Term:
    """Give the term of a password issued then; `provisional` shortens any of them (R09)."""
    life = Life.PROVISIONAL if provisional else LIVES[origin]
    if life is Life.FINAL and issued_at.astimezone(PARIS).date() < rules.password.final_from:
        life = Life.PROVISIONAL
    longest = issued_at + rules.password.years * YEAR
    match life:
        case Life.PROVISIONAL:
            return Term(True, issued_at + rules.password.provisional_days * DAY)
        case Life.FINAL:
            cut_over = rules.cut_over(*PHONE_LOGIN)
            return Term(False, min(longest, cut_over) if cut_over else longest)
        case Life.OWN:
            return Term(False, longest)
        case Life.ENDLESS:
            return Term(False, None)
