"""Who may see and do what in a dossier: one table (R26 to R33), which denies by default.

A session holds no right: whoever opens a dossier asks this table in the transaction that reads it
(D11), so that a delegation withdrawn ends what it allowed at the next sentence.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import and_, select
from sqlalchemy.orm import Session as Transaction

from shared.models import Account, LoginSession, Person, Role, Situation
from shared.sessions import Session


class Standing(StrEnum):
    """What somebody is in a dossier, the delegation included."""

    ALLOCATAIRE = "allocataire"
    DELEGATE = "conjoint with delegation"
    CONJOINT = "conjoint without delegation"
    CONJOINT_ALLOCATAIRE = "conjoint-allocataire"
    AUTRE = "autre"
    TUTEUR = "tuteur"


class Right(StrEnum):
    """What can be seen or done."""

    READ_PAYMENTS = "read payments"
    READ_RIGHTS = "read rights in progress"
    READ_QUOTIENT = "read quotient familial"
    READ_CERTIFICATES = "read certificates"
    READ_DEBTS = "read debts"
    READ_CLAIMS = "read where claims stand"
    READ_REQUESTS = "read what the Caf still needs"
    READ_APPOINTMENTS = "read appointments"
    READ_LETTERS = "read letters"
    READ_ALERTS = "read alerts"
    READ_OWN_DATA = "read own data"
    READ_OTHERS_CONTACTS = "read others' contact details"
    CHANGE_OWN_CONTACTS = "change own contact details"
    CHANGE_OWN_PASSWORD = "change own password"  # noqa: S105
    DELEGATE = "give or withdraw the delegation"
    DECLARE_SEPARATION = "declare a separation"
    DECLARE_CHANGES = "declare changes"
    DECLARE_INCOME = "declare income"
    CLAIM_ONLINE = "claim online"
    CLAIM_IN_OWN_RIGHT = "claim AAH, AJPA, BAFA or PALA"
    ANSWER_REQUESTS = "answer what the Caf asks"
    SEND_DOCUMENTS = "send documents"
    CONTACT = "contact by telephone or at the desk"
    CONTACT_BY_MAIL = "contact by mail"


READS = frozenset(right for right in Right if right.name.startswith("READ_"))

_EVERYBODY = frozenset(Standing)
_NOBODY = frozenset[Standing]()
_OWNER = frozenset({Standing.ALLOCATAIRE})
_MANAGERS = _OWNER | {  # R26, R27, R28, R31
    Standing.DELEGATE,
    Standing.CONJOINT_ALLOCATAIRE,
    Standing.TUTEUR,
}
_COUPLE = _MANAGERS | {Standing.CONJOINT}  # R29

_ALWAYS = frozenset(Situation)
_AFFILIATED = frozenset({Situation.AFFILIE})  # closed to a first claim (R32)

# fmt: off
TABLE: dict[Right, tuple[frozenset[Standing], frozenset[Situation]]] = {
    Right.READ_PAYMENTS:        (_MANAGERS,  _ALWAYS),  # a first claim has none yet (R32)
    Right.READ_RIGHTS:          (_MANAGERS,  _ALWAYS),  # the same
    Right.READ_QUOTIENT:        (_MANAGERS,  _AFFILIATED),
    Right.READ_CERTIFICATES:    (_MANAGERS,  _AFFILIATED),
    Right.READ_DEBTS:           (_MANAGERS,  _AFFILIATED),
    Right.READ_CLAIMS:          (_MANAGERS,  _ALWAYS),
    Right.READ_REQUESTS:        (_MANAGERS,  _ALWAYS),
    Right.READ_APPOINTMENTS:    (_MANAGERS,  _AFFILIATED),
    Right.READ_LETTERS:         (_MANAGERS,  _AFFILIATED),
    Right.READ_ALERTS:          (_MANAGERS,  _AFFILIATED),
    Right.READ_OWN_DATA:        (_EVERYBODY, _ALWAYS),
    Right.READ_OTHERS_CONTACTS: (_NOBODY,    _ALWAYS),
    Right.CHANGE_OWN_CONTACTS:  (_COUPLE,    _AFFILIATED),
    Right.CHANGE_OWN_PASSWORD:  (_EVERYBODY, _ALWAYS),
    Right.DELEGATE:             (_OWNER,     _AFFILIATED),
    Right.DECLARE_SEPARATION:   (_COUPLE,    _AFFILIATED),
    Right.DECLARE_CHANGES:      (_MANAGERS,  _AFFILIATED),
    Right.DECLARE_INCOME:       (_MANAGERS,  _AFFILIATED),
    Right.CLAIM_ONLINE:         (_MANAGERS,  _AFFILIATED),
    Right.CLAIM_IN_OWN_RIGHT:   (_COUPLE,    _AFFILIATED),
    Right.ANSWER_REQUESTS:      (_MANAGERS,  _ALWAYS),
    Right.SEND_DOCUMENTS:       (_MANAGERS,  _ALWAYS),
    Right.CONTACT:              (_COUPLE,    _ALWAYS),
    Right.CONTACT_BY_MAIL:      (_MANAGERS,  _ALWAYS),
}
# fmt: on


@dataclass(frozen=True)
class Holder:
    """Whose a session is, as the database says at this moment; without standing, no right."""

    account_id: UUID
    person_id: UUID | None  # None: opened with the dossier's own secret (D11)
    standing: Standing | None
    situation: Situation

    def may(self, right: Right) -> bool:
        """Ask the table."""
        return self.standing is not None and allows(self.standing, self.situation, right)

    def may_later(self, right: Right) -> bool:
        """Ask the table as of a dossier that is affiliated (R32)."""
        return self.standing is not None and allows(self.standing, Situation.AFFILIE, right)


def allows(standing: Standing, situation: Situation, right: Right) -> bool:
    """Read the table; what it does not name is refused."""
    standings, situations = TABLE.get(right, (_NOBODY, _ALWAYS))
    return standing in standings and situation in situations


def may_be_told(standing: Standing | None, situation: Situation) -> frozenset[Right]:
    """Give what an adviser may tell somebody: what they could read themselves (R33)."""
    if standing is None:
        return frozenset()
    return frozenset(right for right in READS if allows(standing, situation, right))


def standing_of(role: str, delegated_at: datetime | None) -> Standing:
    """Say what a person of that role is; the delegation is a conjoint's (R27)."""
    if role == Role.CONJOINT:
        return Standing.CONJOINT if delegated_at is None else Standing.DELEGATE
    return Standing(role)


def holder_of(transaction: Transaction, session: Session) -> Holder:
    """Say whose an open session is: a person's, or the allocataire's if it names none (D11)."""
    row = transaction.execute(
        select(
            Account.id,
            Account.situation,
            LoginSession.person_id,
            Person.role,
            Person.delegated_at,
        )
        .select_from(LoginSession)
        .join(Account, Account.id == LoginSession.account_id)
        .outerjoin(
            Person, and_(Person.id == LoginSession.person_id, Person.account_id == Account.id)
        )
        .where(LoginSession.token_hash == session.token_hash)
    ).one()
    account_id, situation, person_id, role, delegated_at = row
    standing = None if role is None else standing_of(role, delegated_at)
    return Holder(
        account_id=account_id,
        person_id=person_id,
        standing=Standing.ALLOCATAIRE if person_id is None else standing,
        situation=Situation(situation),
    )


def conjoint_of(transaction: Transaction, account_id: UUID) -> Standing | None:
    """Say what the conjoint of a dossier is; of several, the one with the fewest rights."""
    rows = transaction.execute(
        select(Person.role, Person.delegated_at).where(
            Person.account_id == account_id,
            Person.role.in_([Role.CONJOINT, Role.CONJOINT_ALLOCATAIRE]),
        )
    )
    found = {standing_of(role, delegated_at) for role, delegated_at in rows}
    fewest_first = (Standing.CONJOINT, Standing.DELEGATE, Standing.CONJOINT_ALLOCATAIRE)
    return next((standing for standing in fewest_first if standing in found), None)
