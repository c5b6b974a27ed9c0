"""The change feed over HTTP: its routes, its scope, its query."""

import hashlib
from collections.abc import Iterator
from datetime import timedelta
from uuid import uuid4

import pytest

from shared import disclosure
from shared.apikeys import Scope
from shared.client import Dossier, ForeignHash, StoreClient
from shared.credentials import Refusal
from shared.sessions import Session
from shared.store import Store
from tests.api import Api, Reply, new_key, running
from tests.store import CAISSE, NUMBER, FakeClock, add_account, log_in, open_session

pytestmark = pytest.mark.parametrize("url", ["sqlite"], indirect=True)  # this is about HTTP

HERE, UNKNOWN = Dossier(CAISSE, NUMBER), Dossier(CAISSE, "9999999")
CHOSEN = "50718264"
COSTLY = "$argon2id$v=19$m=16777216,t=2,p=1$c29tZXNhbHQ$" + "A" * 43


@pytest.fixture
def api(store: Store) -> Iterator[Api]:
    add_account(store)
    with running(store) as api:
        yield api


def tell(api: Api, clock: FakeClock, **fields: object) -> Reply:
    """Tell of a change that is right but for these fields."""
    body = {
        "id": str(uuid4()),
        "at": clock.now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "caisse": CAISSE,
        "number": NUMBER,
        "password": None,
    }
    return api.ask("POST", "/v1/changes", body | fields, idempotency=str(uuid4()))


def new_password(**fields: object) -> dict[str, object]:
    digest = hashlib.sha256(CHOSEN.encode()).hexdigest()
    return {"scheme": "sha256", "hash": digest, "provisional": False} | fields


@pytest.fixture
def client(api: Api) -> StoreClient:
    return StoreClient(api.url, api.key)


def test_the_feed_is_followed_from_change_to_change(store: Store, client: StoreClient) -> None:
    open_session(store)
    changes = client.changes()
    assert [(one["event"], one["caisse"], one["number"]) for one in changes] == [
        ("issued", CAISSE, NUMBER),
        ("first-used", CAISSE, NUMBER),
    ]
    first, last = [one["id"] for one in changes]
    assert [one["id"] for one in client.changes(first)] == [last]
    assert client.changes(last) == []


def test_an_erased_dossier_is_told(store: Store, client: StoreClient) -> None:
    """D16: its password first, then the dossier."""
    disclosure.erase(store, CAISSE, NUMBER)
    _, ended, erased = client.changes()
    assert (ended["event"], ended["why"]) == ("ended", "erased")
    assert (erased["event"], erased["kind"], erased["number"]) == ("erased", "dossier", NUMBER)
    assert erased["credential"] is None


def test_what_the_web_stack_ends_is_over(
    store: Store, client: StoreClient, clock: FakeClock
) -> None:
    assert client.tell_change(uuid4(), clock.now, HERE) == "done"
    assert log_in(store) is Refusal.REFUSED
    assert client.tell_change(uuid4(), clock.now, HERE) == "unchanged"
    assert client.tell_change(uuid4(), clock.now, UNKNOWN) == "unknown-account"


def test_what_the_web_stack_creates_opens(
    store: Store, client: StoreClient, clock: FakeClock
) -> None:
    clock.advance(timedelta(hours=2))
    given = ForeignHash("sha256", hashlib.sha256(CHOSEN.encode()).hexdigest())
    assert client.tell_change(uuid4(), clock.now, HERE, given) == "done"
    assert isinstance(log_in(store, CHOSEN), Session)


REFUSED = {
    "future": {"at": "2031-01-01T00:00:00Z"},
    "no offset": {"at": "2021-11-02T09:30:00"},
    "another offset": {"at": "0001-01-01T00:00:00+14:00"},
    "no such day": {"at": "2021-02-30T00:00:00Z"},
    "id": {"id": "1"},
    "costly": {"password": new_password(scheme="argon2id", hash=COSTLY)},
    "unknown scheme": {"password": new_password(scheme="crypt")},
    "not a hash": {"password": new_password(hash=CHOSEN)},
    "another field": {"credential": "x"},
}


@pytest.mark.parametrize("fields", REFUSED.values(), ids=REFUSED)
def test_what_cant_be_is_refused_and_changes_nothing(
    store: Store, api: Api, clock: FakeClock, fields: dict[str, object]
) -> None:
    refused = tell(api, clock, **fields)
    assert (refused.status, refused.problem) == (422, "invalid")
    assert CHOSEN.encode() not in refused.body
    open_session(store)


QUERIES = {
    "none": "",
    "no number": "?after=",
    "negative": "?after=-1",
    "with a plus": "?after=%2B1",
    "with a space": "?after=%201",
    "another script": "?after=%D9%A3",
    "a fraction": "?after=1.0",
    "too large": "?after=" + "9" * 16,
    "twice": "?after=1&after=2",
    "another name": "?after=1&limit=2",
}


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES)
def test_a_query_is_as_strict_as_a_body(api: Api, query: str) -> None:
    assert api.ask("GET", f"/v1/changes{query}").problem == "invalid"


def test_a_body_where_a_query_is_expected_is_refused(api: Api) -> None:
    assert api.ask("GET", "/v1/changes?after=0", {"after": 0}).problem == "no-body-expected"


def test_it_has_a_scope_of_its_own(store: Store, api: Api, clock: FakeClock) -> None:
    key = new_key(store, "bornes", *(scope for scope in Scope if scope is not Scope.CHANGES))
    assert api.ask("GET", "/v1/changes?after=0", key=key).problem == "scope-lacking"
    alone = new_key(store, "annuaire", Scope.CHANGES)
    assert api.ask("GET", "/v1/changes?after=0", key=alone).status == 200
