"""No answer, size or number of statements tells whether an account exists (D04, D07)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest
from sqlalchemy import delete, update

from shared.credentials import Login, verify
from shared.models import Account, Credential, CredentialState
from shared.origin import Origin
from shared.resets import request_password
from shared.rules import Channel
from shared.secret import Secret
from shared.store import Store
from tests.api import LOGIN, Api, Reply, running
from tests.store import CAISSE, NUMBER, CountingHasher, FakeClock, add_account, execute, watch

WRONG = "00000000"
UNKNOWN = "9999999"
ASKING = {name: value for name, value in LOGIN.items() if name != "password"}

_keys = count()


@pytest.fixture
def api(store: Store, clock: FakeClock) -> Iterator[Api]:
    """The API, in the days when the number logged in on the web (R17)."""
    clock.now = datetime(2021, 10, 1, 9, 30, tzinfo=UTC)
    add_account(store)
    with running(store) as api:
        yield api


def ask(api: Api, path: str, body: dict[str, str]) -> Reply:
    return api.ask("POST", path, body, idempotency=f"{next(_keys):016}")


def as_sent(reply: Reply) -> tuple[int, dict[str, str], bytes]:
    return reply.status, {n: v for n, v in reply.headers.items() if n != "Date"}, reply.body


def nothing(_: Store) -> None:
    pass


def lock(store: Store) -> None:
    for caller in range(5):
        login = Login(CAISSE, NUMBER, Secret(WRONG))
        verify(store, login, Origin(Channel.WEB, f"client:site-web:{caller}"))


def end(store: Store) -> None:
    execute(store, lambda t: t.execute(update(Credential).values(state=CredentialState.ENDED)))


def remove(store: Store) -> None:
    execute(store, lambda t: t.execute(delete(Credential)))


def close_account(store: Store) -> None:
    end(store)
    execute(store, lambda t: t.execute(update(Account).values(closed_at=store.clock())))


def expire(store: Store) -> None:
    execute(store, lambda t: t.execute(update(Credential).values(expires_at=store.clock())))


REFUSALS: dict[str, tuple[Callable[[Store], None], dict[str, str]]] = {
    "wrong password": (nothing, {"password": WRONG}),
    "short password": (nothing, {"password": "1"}),
    "right password of a locked account": (lock, {}),
    "right password that was ended": (end, {}),
    "wrong password that is expired": (expire, {"password": WRONG}),
    "account without password": (remove, {}),
    "closed account": (close_account, {}),
    "right password in another caisse": (nothing, {"caisse": "92"}),
}


@contextmanager
def compared(store: Store, hasher: CountingHasher) -> Iterator[list[str]]:
    """Give what the store is asked in the block; one Argon2 computation, no more, no less."""
    before = hasher.compared + hasher.pretended
    seen = watch(store.database)
    yield seen
    assert hasher.compared + hasher.pretended == before + 1


@pytest.mark.parametrize(("before", "changes"), REFUSALS.values(), ids=REFUSALS)
def test_refused_logins_look_alike(
    store: Store,
    api: Api,
    hasher: CountingHasher,
    before: Callable[[Store], None],
    changes: dict[str, str],
) -> None:
    with compared(store, hasher) as of_unknown:
        unknown = ask(api, "/v1/logins", LOGIN | {"number": UNKNOWN})
        asked_of_unknown = list(of_unknown)
    before(store)
    with compared(store, hasher) as asked:
        refused = ask(api, "/v1/logins", LOGIN | changes)
    assert as_sent(refused) == as_sent(unknown)
    assert refused.problem == "login-refused"
    assert asked == asked_of_unknown


def ask_before(store: Store) -> None:
    request_password(store, CAISSE, NUMBER, Origin(Channel.WEB, "client:site-web:1"))


def ask_often(store: Store) -> None:
    assert isinstance(store.clock, FakeClock)
    for _ in range(5):
        ask_before(store)
        store.clock.advance(timedelta(minutes=20))


REQUESTS = {
    "a dossier": nothing,
    "a dossier without password": remove,
    "asked for a moment ago": ask_before,
    "asked for too often": ask_often,
    "closed account": close_account,
}


@pytest.mark.parametrize("before", REQUESTS.values(), ids=REQUESTS)
def test_requests_for_a_password_look_alike(
    store: Store, api: Api, hasher: CountingHasher, before: Callable[[Store], None]
) -> None:
    seen = watch(store.database)
    unknown = ask(api, "/v1/password-requests", ASKING | {"number": UNKNOWN})
    asked_of_unknown = list(seen)
    before(store)
    hashes = hasher.hashed + hasher.hashed_like
    seen.clear()
    known = ask(api, "/v1/password-requests", ASKING)
    assert as_sent(known) == as_sent(unknown)
    assert (known.status, known.body) == (202, b'{"status":"accepted"}')
    assert seen == asked_of_unknown
    assert hasher.hashed + hasher.hashed_like >= hashes + 1


def test_sessions_that_never_were_look_like_ended_ones(store: Store, api: Api) -> None:
    opened = ask(api, "/v1/logins", LOGIN).json["session"]
    api.ask("DELETE", "/v1/session", session=opened, idempotency=f"{next(_keys):016}")
    tokens = [opened, "A" * 43, "A" * 42, "", "A" * 5_000]
    for path in ("/v1/session", "/v1/session/payments/last"):
        replies = [as_sent(api.ask("GET", path, session=token)) for token in tokens]
        assert replies == [replies[0]] * len(tokens)
        assert replies[0][0] == 401
