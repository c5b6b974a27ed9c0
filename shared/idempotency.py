"""Requests that may come twice and have one effect (IETF draft « Idempotency-Key »).

A request is reserved in a committed transaction before it is done, so that two that come at once,
in two processes, are told apart. Its answer is kept, sealed, and given again to whoever repeats it.

One that fails of our doing is forgotten, and may be repeated. One whose process died in the middle
may be repeated once its lease is over: its effect, if it had one, may then come a second time, as
after any call whose answer was lost; D05 and D06 count both. What is named by `deed` comes once.
"""

import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, and_, delete, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session as Transaction

from shared.database import delete_oldest
from shared.errors import StoreError
from shared.models import IdempotentRequest
from shared.store import Store

LEASE = timedelta(seconds=60)  # longer than a request can take
KEPT = timedelta(hours=24)


class KeyReusedError(StoreError):
    """The client used this key before, for another request."""


class UnderWayError(StoreError):
    """The same request is being done."""


@dataclass(frozen=True)
class Request:
    """What a client asks for: its key, and all that makes the request what it is."""

    client: str
    key: str
    content: str = field(repr=False)


@dataclass(frozen=True)
class Answer:
    """What was answered: the HTTP status and the body."""

    status: int
    body: bytes = field(repr=False)


def once(store: Store, request: Request, act: Callable[[], Answer]) -> Answer:
    """Do what is asked and keep the answer, or give the one kept.

    KeyReusedError, UnderWayError. What `act` raises is raised, and nothing is kept.
    """
    reserved = _reserve(store, request)
    if isinstance(reserved, Answer):
        return reserved
    try:
        answer = act()
    except BaseException:
        _release(store, request, reserved)
        raise
    _keep(store, request, reserved, answer)
    return answer


def deed(store: Store, request: Request) -> UUID:
    """Name what a request makes: done a second time, it finds what it made the first time."""
    whole = "\x1f".join([request.client, request.key, request.content])
    return UUID(bytes=store.keys.index("idempotent-deed", whole)[:16], version=4)


def keep_first(
    store: Store, transaction: Connection, answered: Sequence[tuple[Request, Answer]]
) -> list[bool]:
    """Keep the answers of requests that were never made before; say which these are.

    In the transaction that does what they ask: so none of them is ever under way.
    """
    now = store.clock()
    ours = {(request.client, request.key): at for at, (request, _) in enumerate(answered)}
    rows = [
        {
            "client": request.client,
            "key": request.key,
            "request_mac": store.keys.index("idempotent-request", request.content),
            "at": now,
            "status": answer.status,
            "answer_sealed": store.keys.seal(answer.body, *binding(request)),
        }
        for request, answer in (answered[at] for _, at in sorted(ours.items()))
    ]
    insert = _KEEP_SQLITE if store.database.sqlite else _KEEP_POSTGRESQL
    first = {ours[client, key] for client, key in transaction.execute(insert, rows)}
    return [at in first for at in range(len(answered))]


def purge(transaction: Transaction, now: datetime) -> bool:
    """Forget some of what was answered long ago; True if there may be more."""
    at = IdempotentRequest.at
    return delete_oldest(transaction, at, at <= now - KEPT)


def _reserve(store: Store, request: Request) -> Answer | datetime:
    """Give the answer kept, or the instant that names our reservation."""
    now = store.clock()
    mac = store.keys.index("idempotent-request", request.content)
    with store.database.write() as transaction:
        if _insert(store, transaction, request, mac, now):
            return now
        row = transaction.get(
            IdempotentRequest, (request.client, request.key), with_for_update=True
        )
        if row is None:  # released this very moment
            raise UnderWayError
        if not hmac.compare_digest(row.request_mac, mac):
            raise KeyReusedError
        if row.status is not None and row.answer_sealed is not None:
            return Answer(row.status, store.keys.open(row.answer_sealed, *binding(request)))
        if row.at + LEASE > now:
            raise UnderWayError
        row.at = now
        return now


def _insert(
    store: Store, transaction: Transaction, request: Request, mac: bytes, now: datetime
) -> bool:
    """Insert the row, unless there is one; wait for whoever is inserting it."""
    insert = sqlite.insert if store.database.sqlite else postgresql.insert
    # Of the connection: for a unit of work SQLAlchemy makes a class of its own at the first use,
    # which another thread may find half made, and warn.
    inserted = transaction.connection().scalar(
        insert(IdempotentRequest)
        .values(client=request.client, key=request.key, request_mac=mac, at=now)
        .on_conflict_do_nothing()
        .returning(IdempotentRequest.at)
    )
    return inserted is not None


def _release(store: Store, request: Request, reserved: datetime) -> None:
    with store.database.write() as transaction:
        transaction.execute(delete(IdempotentRequest).where(_ours(request, reserved)))


def _keep(store: Store, request: Request, reserved: datetime, answer: Answer) -> None:
    sealed = store.keys.seal(answer.body, *binding(request))
    with store.database.write() as transaction:
        transaction.execute(
            update(IdempotentRequest)
            .where(_ours(request, reserved))
            .values(status=answer.status, answer_sealed=sealed)
        )


def _ours(request: Request, reserved: datetime) -> ColumnElement[bool]:
    """Select the reservation if nobody has taken it over since."""
    return and_(
        IdempotentRequest.client == request.client,
        IdempotentRequest.key == request.key,
        IdempotentRequest.at == reserved,
        IdempotentRequest.status.is_(None),
    )


def binding(request: Request | IdempotentRequest) -> tuple[str, ...]:
    """A kept answer opens for its own request only (D13)."""
    return ("idempotent_request", request.client, request.key)


# Built once: to build one takes longer than to run it. Whoever is inserting the same is waited for.
_KEEP_SQLITE, _KEEP_POSTGRESQL = (
    insert(IdempotentRequest)
    .on_conflict_do_nothing()
    .returning(IdempotentRequest.client, IdempotentRequest.key)
    for insert in (sqlite.insert, postgresql.insert)
)
