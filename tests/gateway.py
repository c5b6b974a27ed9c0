"""What tests of the SMS gateway are written with: queued messages, providers of every temper."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select

from shared import client_messages, outbox
from shared.client_messages import Order
from shared.models import Message, MessageState, Priority, Route, SendAttempt
from shared.outbox import Render, Rendered, Report, Result
from shared.resets import Template
from shared.store import Store
from sms.dispatcher import Dispatcher, Pace
from sms.provider import Outgoing, Provider
from sms.templates import Templates

MOBILE = "+33612345678"
PASSWORD = "83927415"
IN_GROUPS = "8392 7415"  # D14
VERSION = "1a2b3c4d"  # of a template
ACCEPTED = Report(Result.ACCEPTED, provider_id="SM1")
LIFE = timedelta(hours=24)  # of a password
QUEUED_AT = datetime(2021, 11, 2, 9, 30, tzinfo=UTC)
LONG = 60.0  # seconds of a wait that is not meant to pass
FAST = Pace(poll=0.005, look_up=0.01, stop=LONG, store_first=0.01, store_longest=0.05)

Temper = Callable[[Outgoing], Awaitable[Report]]


class MoodyProvider:
    """Treats one message after the other as it is told; `otherwise`, it accepts all later ones."""

    route = Route.SMS

    def __init__(
        self,
        *tempers: Temper,
        fate: Report | Exception | None = None,
        name: str = "moody",
        window: int | None = None,
    ) -> None:
        self.name = name
        self.window = window
        self._tempers = list(tempers)
        self.fate = fate
        self.otherwise = answers(ACCEPTED)
        self.asked: list[Outgoing] = []
        self.looked_up: list[UUID] = []

    async def send(self, message: Outgoing) -> Report:
        self.asked.append(message)
        return await (self._tempers.pop(0) if self._tempers else self.otherwise)(message)

    async def look_up(self, message: Outgoing) -> Report | None:
        self.looked_up.append(message.attempt_id)
        if isinstance(self.fate, Exception):
            raise self.fate
        return self.fate


def answers(report: Report, after: float = 0) -> Temper:
    async def answer(_: Outgoing) -> Report:
        await asyncio.sleep(after)
        return report

    return answer


def answers_once(event: asyncio.Event, report: Report) -> Temper:
    async def answer(_: Outgoing) -> Report:
        await event.wait()
        return report

    return answer


def raises(error: Exception) -> Temper:
    async def fail(_: Outgoing) -> Report:
        raise error

    return fail


async def hangs(_: Outgoing) -> Report:
    await asyncio.Event().wait()
    raise AssertionError


def says(text: str) -> Render:
    """Make templates that say this, whatever fills them."""
    return lambda *_: Rendered(text, VERSION)


def by_name(template: str, _: Mapping[str, str]) -> Rendered:
    """Say which template it is."""
    return Rendered(template, VERSION)


def queue(
    store: Store,
    password: str = PASSWORD,
    template: str = Template.PASSWORD,
    priority: Priority = Priority.PASSWORD,
    destination: str = MOBILE,
) -> UUID:
    """Put a message into the outbox, as « mot de passe oublié » does."""
    message = queued_message(store, password, template, priority, destination)
    message_id = message.id
    with store.database.write() as transaction:
        transaction.add(message)
    return message_id


def send_for(store: Store, client: str, order: Order) -> UUID:
    """Have a message sent as an API client does; give its id."""
    row = client_messages.draft(store, client, order, uuid4())
    with store.database.begin() as transaction:
        client_messages.put(store, transaction, [row])
    return UUID(str(row["id"]))


def queued_message(
    store: Store,
    password: str = PASSWORD,
    template: str = Template.PASSWORD,
    priority: Priority = Priority.PASSWORD,
    destination: str = MOBILE,
) -> Message:
    message_id, now = uuid4(), store.clock()
    return Message(
        id=message_id,
        route=Route.SMS,
        template=template,
        priority=priority,
        account_id=None,
        known_caller=False,
        destination_sealed=outbox.seal(store, message_id, "destination", destination),
        content_sealed=outbox.seal(
            store, message_id, "content", json.dumps({"password": password})
        ),
        state=MessageState.QUEUED,
        created_at=now,
        expires_at=now + timedelta(hours=store.rules.reset.message_hours),
        next_at=now,
    )


def with_outbox(store: Store, **seconds: float) -> Store:
    """Give the same store with other delays of D19, fractions of seconds allowed."""
    rules = store.rules.outbox.model_copy(update=seconds)
    return replace(store, rules=store.rules.model_copy(update={"outbox": rules}))


def message(store: Store, message_id: UUID) -> Message:
    with store.database.read() as transaction:
        return transaction.get_one(Message, message_id)


def attempts(store: Store, message_id: UUID) -> Sequence[SendAttempt]:
    """Give the attempts of a message in their order."""
    of_message = select(SendAttempt).where(SendAttempt.message_id == message_id)
    with store.database.read() as transaction:
        return transaction.scalars(of_message.order_by(SendAttempt.claim)).all()


@asynccontextmanager
async def dispatching(
    store: Store, by: Provider | Sequence[Provider], pace: Pace = FAST
) -> AsyncIterator[Dispatcher]:
    """Run a dispatcher beside the block, and stop it at its end."""
    providers = by if isinstance(by, Sequence) else [by]
    with ThreadPoolExecutor(4) as pool:
        templates = Templates.load(route=providers[0].route)
        dispatcher = Dispatcher(store, providers, templates, pool, pace)
        running = asyncio.create_task(dispatcher.run())
        try:
            yield dispatcher
        finally:
            dispatcher.stop()
            await asyncio.wait_for(running, LONG)


def skip(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let so much of the running loop's time go by at once."""
    loop = asyncio.get_running_loop()
    now = loop.time
    monkeypatch.setattr(loop, "time", lambda: now() + seconds)


async def until(condition: Callable[[], object], seconds: float = LONG) -> None:
    """Wait for something to become true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        await asyncio.sleep(0.005)
