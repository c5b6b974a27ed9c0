"""A gateway on PostgreSQL is told of a message; it does not find it by looking."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import func, select, text
from structlog.testing import capture_logs

from shared.client_messages import Order
from shared.contacts import Contact
from shared.models import Route
from shared.notices import Notice, Template
from shared.notices import queue as queue_notice
from shared.origin import Origin
from shared.resets import request_password
from shared.rules import Channel
from shared.store import Store
from sms import wakeups
from tests.gateway import FAST, LONG, MOBILE, MoodyProvider, dispatching, queue, send_for, until
from tests.store import CAISSE, NUMBER, OWNER, STRANGER, add_account

pytestmark = pytest.mark.parametrize("url", ["postgresql"], indirect=True)

SELDOM = replace(FAST, poll=10 * LONG)

_LISTENERS = text(
    "SELECT pid FROM pg_stat_activity"
    " WHERE datname = current_database() AND query = 'LISTEN svi_outbox'"
)


def listeners(store: Store) -> list[int]:
    with store.database.read() as transaction:
        return list(transaction.scalars(_LISTENERS))


async def test_a_password_asked_for_leaves_at_once(store: Store) -> None:
    """R10."""
    add_account(store)
    provider = MoodyProvider()
    async with dispatching(store, provider, SELDOM):
        await until(lambda: listeners(store))
        request_password(store, CAISSE, NUMBER, Origin(Channel.VOICE, OWNER))
        await until(lambda: provider.asked)


async def test_a_code_leaves_at_once(store: Store) -> None:
    """R15."""
    provider = MoodyProvider()
    content, life = {"code": "123456", "minutes": "10"}, store.clock().replace(year=2022)
    notice = Notice(Template.CODE, None, Contact(Route.SMS, OWNER), content, life)
    async with dispatching(store, provider, SELDOM):
        await until(lambda: listeners(store))
        with store.database.write() as transaction:
            queue_notice(store, transaction, notice)
        await until(lambda: provider.asked)


async def test_what_a_client_has_sent_leaves_at_once(store: Store) -> None:
    provider = MoodyProvider()
    order = Order("notice.message-a-lire", MOBILE, {}, timedelta(hours=1))
    async with dispatching(store, provider, SELDOM):
        await until(lambda: listeners(store))
        send_for(store, "agenda", order)
        await until(lambda: provider.asked)


async def test_a_listener_that_lost_its_database_looks_when_it_is_back(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was queued meanwhile was announced to nobody."""
    monkeypatch.setattr(wakeups, "RETRY_SECONDS", 0.05)
    provider = MoodyProvider()
    with capture_logs() as logs:
        async with dispatching(store, provider, SELDOM):
            await until(lambda: listeners(store))
            [pid] = listeners(store)
            with store.database.write() as transaction:
                transaction.execute(select(func.pg_terminate_backend(pid)))
            queue(store)
            await until(lambda: provider.asked)
    assert "wakeups_away" in [one["event"] for one in logs]


async def test_who_is_not_known_wakes_it_just_as_well(store: Store) -> None:
    """D04: the same statements, whoever asks."""
    woken = asyncio.Event()
    task = asyncio.create_task(wakeups.listen(store.database, woken.set))
    try:
        await asyncio.wait_for(woken.wait(), LONG)  # once, when it listens
        woken.clear()
        request_password(store, CAISSE, NUMBER, Origin(Channel.VOICE, STRANGER))
        await asyncio.wait_for(woken.wait(), LONG)
    finally:
        task.cancel()
        await asyncio.wait([task])
