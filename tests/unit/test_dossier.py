"""Reading a dossier: the session's own, and every reading audited (D15, R39)."""

import inspect
from datetime import date
from uuid import UUID

import pytest
from sqlalchemy import select

from shared import dossier
from shared.models import AuditEntry, Payment
from shared.sessions import Session
from shared.store import Store
from tests.store import FakeClock, add_account, execute, open_session

OTHER_NUMBER = "7654321"
READERS = [
    function
    for name, function in inspect.getmembers(dossier, inspect.isfunction)
    if function.__module__ == dossier.__name__ and not name.startswith("_")
]


def _pay(store: Store, account_id: UUID, *payments: tuple[str, int]) -> None:
    rows = [
        Payment(account_id=account_id, paid_on=date.fromisoformat(day), cents=cents)
        for day, cents in payments
    ]
    execute(store, lambda transaction: transaction.add_all(rows))


def test_the_newest_payment_is_the_last_one(store: Store) -> None:
    account_id = add_account(store)
    _pay(store, account_id, ("2021-09-05", 100), ("2021-11-05", 300), ("2021-10-05", 200))
    payment = dossier.last_payment(store, open_session(store))
    assert payment is not None
    assert (payment.paid_on, payment.cents) == (date(2021, 11, 5), 300)


def test_a_dossier_may_have_no_payment_yet(store: Store) -> None:
    add_account(store)
    assert dossier.last_payment(store, open_session(store)) is None


def test_a_payment_of_another_dossier_is_never_read(store: Store) -> None:
    add_account(store)
    other = add_account(store, OTHER_NUMBER)
    _pay(store, other, ("2021-11-05", 300))
    assert dossier.last_payment(store, open_session(store)) is None


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.__name__)
def test_every_reading_is_audited(store: Store, clock: FakeClock, reader: type) -> None:
    account_id = add_account(store)
    reader(store, open_session(store, call_id="call-1"))
    with store.database.read() as transaction:
        entry = transaction.scalars(select(AuditEntry).order_by(AuditEntry.id.desc())).first()
    assert entry is not None
    assert entry.event == "read-" + reader.__name__.replace("_", "-")
    assert (entry.account_id, entry.call_id, entry.channel, entry.at) == (
        account_id,
        "call-1",
        "voice",
        clock.now,
    )


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.__name__)
def test_no_reader_can_be_told_whose_dossier_to_read(reader: type) -> None:
    """R39: there is no way to write the reading of somebody else's file."""
    parameters = inspect.signature(reader).parameters
    kinds = [parameter.annotation for parameter in parameters.values()]
    assert kinds[:2] == [Store, Session]
    plain = (int, bool, date)  # what may say how much, or of when, but not of whom
    assert [kind for kind in kinds[2:] if kind not in plain] == []
    assert not any(
        word in name for name in parameters for word in ("account", "number", "person", "nir", "id")
    )
