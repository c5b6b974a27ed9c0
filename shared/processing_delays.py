"""How far each caisse has got with what it received (R38): nobody's data, the same for all."""

from collections.abc import Collection
from typing import Any, cast

from pydantic import ValidationError
from sqlalchemy import Connection, Table, select
from sqlalchemy.dialects import postgresql, sqlite

from shared.clock import DAY
from shared.dossier_data import DELAYS, Delay, DelaysLine, Reading
from shared.errors import UnavailableError
from shared.models import ProcessingDelay
from shared.store import Store

_TABLE = cast(Table, ProcessingDelay.__table__)


def of_caisse(store: Store, caisse: str) -> tuple[Delay, ...]:
    """Give them by category; UnavailableError if nothing was told of late."""
    rules, now = store.rules.dossier, store.clock()
    with store.database.read() as transaction:
        row = transaction.get(ProcessingDelay, caisse)
    if row is None or now - row.as_of > rules.delays_fresh_days * DAY:
        raise UnavailableError("delays: nothing was told, or too long ago")
    try:
        return DELAYS.validate_json(row.delays, strict=True, context=Reading(rules, now))
    except ValidationError:
        raise UnavailableError("delays: of a code that is gone") from None


def keep(store: Store, transaction: Connection, lines: Collection[DelaysLine]) -> set[str]:
    """Keep the newest of each caisse; give those that have something new.

    Whoever calls holds off others (`dossier_store.lock`).
    """
    known = {row.caisse: row.as_of for row in transaction.execute(select(_TABLE))}
    new: dict[str, DelaysLine] = {}
    for line in lines:
        if line.caisse not in known or line.as_of > known[line.caisse]:
            new[line.caisse] = line
            known[line.caisse] = line.as_of
    if new:
        rows = [
            {
                "caisse": line.caisse,
                "as_of": line.as_of,
                "delays": DELAYS.dump_json(line.delays).decode(),
            }
            for line in new.values()
        ]
        transaction.execute(_PUT_SQLITE if store.database.sqlite else _PUT_POSTGRESQL, rows)
    return set(new)


def _put(insert: Any) -> Any:
    statement = insert(_TABLE)
    new = statement.excluded
    return statement.on_conflict_do_update(
        index_elements=["caisse"], set_={"as_of": new.as_of, "delays": new.delays}
    )


_PUT_SQLITE, _PUT_POSTGRESQL = (_put(insert) for insert in (sqlite.insert, postgresql.insert))
