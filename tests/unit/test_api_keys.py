"""Keys of the HTTP API: which one is good, and what is kept of it."""

from datetime import timedelta

import pytest
from sqlalchemy import select

from shared import apikeys
from shared.apikeys import Holder, KeyRefusedError, Scope
from shared.models import ApiKey, AuditEntry
from shared.secret import Secret
from shared.store import Store
from tests.api import holder
from tests.store import FakeClock

DAY = timedelta(days=1)
INSTANT = timedelta(microseconds=1)


def add(store: Store, client: str = "site-web") -> Secret:
    return apikeys.add(store, client, [Scope.SESSIONS, Scope.LOGINS], DAY)


def id_of(key: Secret) -> str:
    return key.reveal().partition(".")[0]


def test_a_key_says_who_holds_it_and_what_for(store: Store) -> None:
    held = Holder("site-web", frozenset({"logins", "sessions"}))
    assert holder(store, add(store).reveal()) == held


def test_a_key_is_good_until_it_expires(store: Store, clock: FakeClock) -> None:
    key = add(store).reveal()
    clock.advance(DAY - INSTANT)
    assert holder(store, key) is not None
    clock.advance(INSTANT)
    assert holder(store, key) is None


def test_a_revoked_key_is_good_no_more(store: Store) -> None:
    old, new = add(store), add(store)
    assert holder(store, old.reveal()) == holder(store, new.reveal())  # rotation
    assert apikeys.revoke(store, id_of(old))
    assert holder(store, old.reveal()) is None
    assert holder(store, new.reveal()) is not None
    assert not apikeys.revoke(store, id_of(old))
    assert not apikeys.revoke(store, "0" * 16)


def test_nothing_else_is_a_key(store: Store) -> None:
    key, other = add(store).reveal(), add(store).reveal()
    key_id, secret = key.split(".")
    wrong = {
        "empty": "",
        "id alone": key_id,
        "no secret": f"{key_id}.",
        "secret of another key": f"{key_id}.{other.split('.')[1]}",
        "id of nobody": f"{'0' * 16}.{secret}",
        "one character changed": key[:-1] + ("A" if key[-1] != "A" else "B"),
        "longer": key + "A",
        "a line behind": key + "\n",
        "no ASCII": f"{key_id}.{'é' * 43}",
        "id in capitals": f"{key_id.upper().replace('0', 'A')}.{secret}",
    }
    for name, text in wrong.items():
        assert holder(store, text) is None, name


def test_the_hash_alone_is_kept(store: Store) -> None:
    key = add(store)
    with store.database.read() as transaction:
        row = transaction.scalars(select(ApiKey)).one()
    secret = key.reveal().split(".")[1]
    kept = [getattr(row, column.key) for column in ApiKey.__table__.columns]
    assert not any(secret in str(value) for value in kept)
    assert len(row.key_hash) == 32
    assert secret not in repr(key)


def test_a_client_has_a_plain_name(store: Store) -> None:
    for name in ("", "Site", "site web", "1site", "site\n", "s" * 33, "é"):
        with pytest.raises(KeyRefusedError):
            add(store, name)
    assert apikeys.every(store) == []


def test_keys_made_and_revoked_are_audited(store: Store) -> None:
    apikeys.revoke(store, id_of(add(store)))
    with store.database.read() as transaction:
        rows = transaction.execute(select(AuditEntry.event, AuditEntry.channel)).all()
    assert [tuple(row) for row in rows] == [
        ("api-key-added", "admin"),
        ("api-key-revoked", "admin"),
    ]
