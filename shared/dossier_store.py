"""The sections of dossiers that are kept here, sealed to their dossier and section (D13)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar, cast
from uuid import UUID

from pydantic import ValidationError
from sqlalchemy import Connection, Table, delete, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session as Transaction

from shared.clock import DAY
from shared.dossier_data import Dossier, DossierSource, Reading, Section
from shared.errors import SealError, UnavailableError
from shared.models import DossierSection
from shared.store import Store

T = TypeVar("T")

_TABLE = cast(Table, DossierSection.__table__)


@dataclass(frozen=True)
class Stored(DossierSource):
    """Reads what was imported; what is too old, damaged or not there is not available."""

    store: Store

    def read(self, dossier: Dossier, section: Section[T]) -> T:
        """Give the section."""
        with self.store.database.read() as transaction:
            row = transaction.get(DossierSection, (dossier.account_id, section.name))
        rules, now = self.store.rules.dossier, self.store.clock()
        if row is None or now - row.as_of > rules.fresh_days * DAY:
            raise UnavailableError(f"{section}: nothing was told, or too long ago")
        try:
            plain = self.store.keys.open(row.content_sealed, *binding(row))
            return section.adapter.validate_json(plain, strict=True, context=Reading(rules, now))
        except (SealError, ValidationError):
            raise UnavailableError(f"{section}: damaged, or of a code that is gone") from None


@dataclass(frozen=True, repr=False)
class ToKeep:
    """A section to keep, and of when it is."""

    account_id: UUID
    section: Section[Any]
    as_of: datetime
    content: object

    @property
    def key(self) -> tuple[UUID, str]:
        """Its place in the table."""
        return self.account_id, self.section.name


def lock(store: Store, transaction: Transaction | Connection) -> None:
    """Hold off whatever changes sections, until this transaction ends."""
    store.database.lock(transaction, store.keys.index("lock", "dossiers"))


def keep(store: Store, transaction: Connection, told: Iterable[ToKeep]) -> set[UUID]:
    """Keep the newest of each section; give the dossiers of which any is new. Needs `lock`."""
    newest: dict[tuple[UUID, str], ToKeep] = {}
    for one in told:
        if one.key not in newest or one.as_of > newest[one.key].as_of:
            newest[one.key] = one
    before = _known(transaction, {account_id for account_id, _ in newest})
    new = [one for one in newest.values() if one.key not in before or one.as_of > before[one.key]]
    if new:
        put = _PUT_SQLITE if store.database.sqlite else _PUT_POSTGRESQL
        transaction.execute(put, [_sealed(store, one) for one in new])
    return {one.account_id for one in new}


def sections_of(transaction: Transaction, account_id: UUID) -> Sequence[DossierSection]:
    """Give all that is kept of a dossier, still sealed."""
    of_it = select(DossierSection).where(DossierSection.account_id == account_id)
    return transaction.scalars(of_it.order_by(DossierSection.section)).all()


def forget(store: Store, transaction: Transaction, account_id: UUID) -> None:
    """Keep nothing of a dossier; an import that is under way is waited for."""
    lock(store, transaction)
    transaction.execute(delete(DossierSection).where(DossierSection.account_id == account_id))


def binding(row: DossierSection) -> tuple[str, ...]:
    """A section opens in its own dossier and place only (D13)."""
    return _binding(row.account_id, row.section)


def _binding(account_id: UUID, section: str) -> tuple[str, ...]:
    return ("dossier_section", str(account_id), section)


def _known(transaction: Connection, accounts: set[UUID]) -> dict[tuple[UUID, str], datetime]:
    rows = transaction.execute(
        select(DossierSection.account_id, DossierSection.section, DossierSection.as_of).where(
            DossierSection.account_id.in_(accounts)
        )
    )
    return {(account_id, section): as_of for account_id, section, as_of in rows}


def _sealed(store: Store, one: ToKeep) -> dict[str, object]:
    plain = one.section.adapter.dump_json(one.content)
    return {
        "account_id": one.account_id,
        "section": one.section.name,
        "as_of": one.as_of,
        "content_sealed": store.keys.seal(plain, *_binding(*one.key)),
    }


def _put(insert: Any) -> Any:
    statement = insert(_TABLE)
    new = statement.excluded
    return statement.on_conflict_do_update(
        index_elements=["account_id", "section"],
        set_={"as_of": new.as_of, "content_sealed": new.content_sealed},
    )


_PUT_SQLITE, _PUT_POSTGRESQL = (_put(insert) for insert in (sqlite.insert, postgresql.insert))
