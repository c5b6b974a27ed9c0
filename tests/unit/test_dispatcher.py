"""The dispatcher against providers of every temper, on both databases (design idea 11, D19)."""

import asyncio
import json
import resource
import shutil
import sqlite3
import stat
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from sqlalchemy import update
from structlog.testing import capture_logs

import sms
from shared import outbox
from shared.database import Database
from shared.errors import StoreDownError
from shared.keyring import KeyRing
from shared.models import Message, MessageState, Priority, Route
from shared.outbox import Ending, Report, Result
from shared.resets import Template
from shared.rules import Outbox
from shared.secret import Secret
from shared.store import Store
from sms.breaker import Patience
from sms.dispatcher import Pace, backoff
from sms.lane import Out
from sms.provider import Outgoing, ProviderStoppedError
from sms.providers.file import FileProvider
from tests.gateway import (
    ACCEPTED,
    FAST,
    IN_GROUPS,
    LIFE,
    MOBILE,
    PASSWORD,
    QUEUED_AT,
    MoodyProvider,
    Temper,
    answers,
    answers_once,
    attempts,
    dispatching,
    hangs,
    message,
    queue,
    raises,
    says,
    skip,
    until,
    with_outbox,
)
from tests.postgresql import PostgresqlServer
from tests.store import CountingHasher, FakeClock, cheap_rules, execute

RETRY = Report(Result.RETRY, "429")
UNCERTAIN = Report(Result.UNCERTAIN, "500")
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
REPEAT_WAIT = timedelta(minutes=2)  # D19


def change(store: Store, message_id: UUID, **values: object) -> None:
    """Change a message behind the outbox's back."""
    of_message = update(Message).where(Message.id == message_id)
    execute(store, lambda transaction: transaction.execute(of_message.values(values)))


def state(store: Store, message_id: UUID) -> str:
    return message(store, message_id).state


async def settled(store: Store, message_id: UUID, wanted: MessageState) -> None:
    await until(lambda: state(store, message_id) == wanted)


async def test_a_message_goes_out_once_and_its_text_is_destroyed(store: Store) -> None:
    provider = MoodyProvider()
    queued = queue(store)
    async with dispatching(store, provider) as dispatcher:
        await settled(store, queued, MessageState.ACCEPTED)
        assert dispatcher.working
        await asyncio.sleep(0.05)
    [sent] = provider.asked
    assert (sent.destination, sent.sender) == (MOBILE, "Caf")
    assert IN_GROUPS in sent.text.reveal()
    row = message(store, queued)
    assert row.provider_id == ACCEPTED.provider_id
    assert (row.content_sealed, row.text_sealed, row.destination_sealed) == (None, None, None)
    [attempt] = attempts(store, queued)
    assert (attempt.id, attempt.result, attempt.provider) == (
        sent.attempt_id,
        Result.ACCEPTED,
        "moody",
    )
    assert not dispatcher.working


async def test_each_template_has_its_own_text(store: Store) -> None:
    provider = MoodyProvider()
    queued = queue(store, template=Template.PASSWORD_OLD_MOBILE)
    async with dispatching(store, provider):
        await settled(store, queued, MessageState.ACCEPTED)
    assert "a changé récemment" in provider.asked[0].text.reveal()


@pytest.mark.parametrize("content", ['{"password": "83927415"}', '{"code": "839274"}'])
@pytest.mark.parametrize("template", [Template.PASSWORD, "campaign"])
async def test_a_message_that_can_not_be_written_ends_and_holds_up_nobody(
    store: Store, template: str, content: str
) -> None:
    """As one of a newer version, taken by an older dispatcher."""
    unwritable = template == "campaign" or "code" in content
    provider = MoodyProvider()
    first, second = queue(store, template=template), queue(store)
    change(store, first, content_sealed=outbox.seal(store, first, "content", content))
    with capture_logs() as logs:
        async with dispatching(store, provider):
            await settled(store, second, MessageState.ACCEPTED)
    ended = message(store, first)
    assert ended.state == (MessageState.REFUSED if unwritable else MessageState.ACCEPTED)
    assert (ended.content_sealed, ended.text_sealed, ended.destination_sealed) == (None, None, None)
    assert [log["message"] for log in logs if log["event"] == "message_refused"] == (
        [str(first)] if unwritable else []
    )
    assert len(provider.asked) == (1 if unwritable else 2)


@pytest.mark.parametrize("answer", [RETRY, UNCERTAIN])
async def test_a_message_whose_template_is_gone_at_the_next_try_ends(
    store: Store, clock: FakeClock, answer: Report
) -> None:
    provider = MoodyProvider(answers(answer))
    queued = queue(store)
    async with dispatching(store, provider):
        await until(lambda: attempts(store, queued) and attempts(store, queued)[0].ended_at)
        change(store, queued, template="campaign")
        clock.advance(REPEAT_WAIT)
        await settled(store, queued, MessageState.REFUSED)
    assert len(provider.asked) == 1
    assert attempts(store, queued)[1].code == "no-template"


ENDS = {
    "refused": (answers(Report(Result.REFUSED, "21610")), MessageState.REFUSED, "21610"),
    "a 500": (answers(UNCERTAIN), MessageState.UNCERTAIN, "500"),
    "an exception": (raises(ConnectionResetError()), MessageState.UNCERTAIN, "failed"),
    "a time-out of its own": (raises(TimeoutError()), MessageState.UNCERTAIN, "no-answer"),
    "a slow answer": (answers(ACCEPTED, 0.05), MessageState.ACCEPTED, ""),
}


@pytest.mark.parametrize(("temper", "end", "code"), ENDS.values(), ids=ENDS)
async def test_one_answer(store: Store, temper: Temper, end: MessageState, code: str) -> None:
    """What is not surely unsent is asked once only, as long as D19 does not repeat it."""
    await check_one_answer(store, temper, end, code)


async def test_no_answer(store: Store) -> None:
    """It is not waited for beyond half the lease."""
    hurried = with_outbox(store, lease_seconds=0.4)
    await check_one_answer(hurried, hangs, MessageState.UNCERTAIN, "no-answer")


async def check_one_answer(store: Store, temper: Temper, end: MessageState, code: str) -> None:
    provider = MoodyProvider(temper)
    queued = queue(store)
    async with dispatching(store, provider):
        await settled(store, queued, end)
        await asyncio.sleep(0.05)
    assert len(provider.asked) == 1
    assert [attempt.code for attempt in attempts(store, queued)] == [code]


async def test_what_was_surely_not_sent_is_tried_again_later(
    store: Store, clock: FakeClock
) -> None:
    provider = MoodyProvider(answers(RETRY), answers(RETRY))
    queued = queue(store)
    async with dispatching(store, provider):
        for tries in (1, 2):
            await until(lambda: message(store, queued).failures == tries)  # noqa: B023
            await asyncio.sleep(0.03)
            assert len(provider.asked) == tries
            clock.advance(MINUTE)
        await settled(store, queued, MessageState.ACCEPTED)
    texts = {sent.text.reveal() for sent in provider.asked}
    assert len(provider.asked) == 3
    assert len(texts) == 1
    assert len({sent.attempt_id for sent in provider.asked}) == 3


async def test_a_provider_that_throttles_is_left_alone_for_as_long_as_it_says(
    store: Store, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    throttled = Report(Result.RETRY, "429", retry_after=HOUR.total_seconds())
    provider = MoodyProvider(answers(throttled))
    first = queue(store)
    async with dispatching(store, provider, pausing(HOUR)) as dispatcher:
        await until(lambda: message(store, first).failures == 1)
        assert dispatcher.standings[0].works  # it has us wait a little
        second = queue(store)
        clock.advance(HOUR)
        await asyncio.sleep(0.1)
        assert len(provider.asked) == 1
        skip(HOUR.total_seconds(), monkeypatch)
        await settled(store, first, MessageState.ACCEPTED)
        await settled(store, second, MessageState.ACCEPTED)


async def test_one_that_throttles_for_long_is_tried_after_each_pause(
    store: Store, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Alone, it would have every code die that is asked for in that hour (R15)."""
    throttled = Report(Result.RETRY, "429", retry_after=HOUR.total_seconds())
    provider = MoodyProvider(*[answers(throttled)] * 2)
    first = queue(store)
    with capture_logs() as logs:
        async with dispatching(store, provider, pausing(HOUR / 4)) as dispatcher:
            await until(lambda: provider.asked)
            await until(lambda: dispatcher.standings[0].out is Out.THROTTLED)
            assert [one.works for one in dispatcher.standings] == [False]
            assert dispatcher.working  # its receipts are still to come
            second = queue(store)
            for tries in (1, 2):
                await until(lambda: len(provider.asked) == tries)  # noqa: B023
                clock.advance(MINUTE)
                await asyncio.sleep(0.05)
                assert len(provider.asked) == tries  # one of the two, once
                skip(HOUR.total_seconds() / 4, monkeypatch)
            for one in (first, second):
                await settled(store, one, MessageState.ACCEPTED)
            assert [one.works for one in dispatcher.standings] == [True]
    [said] = [log for log in logs if log["event"] == "provider_throttles"]
    assert said == {
        "event": "provider_throttles",
        "log_level": "warning",
        "provider": "moody",
        "seconds": HOUR.total_seconds(),
    }


def pausing(longest: timedelta) -> Pace:
    """Send one at a time: no claim is under way while a report teaches us to wait."""
    return replace(FAST, at_once=1, kept=0, patience=Patience(longest=longest.total_seconds()))


async def test_a_campaign_leaves_places_for_a_password(store: Store) -> None:
    """However slow the provider is with the campaign's."""
    provider = MoodyProvider(*[hangs] * (FAST.at_once - FAST.kept))
    for _ in range(2 * FAST.at_once):
        queue(store, priority=Priority.CAMPAIGN)
    async with dispatching(store, provider, replace(FAST, stop=0.01)):
        await until(lambda: len(provider.asked) == FAST.at_once - FAST.kept)
        await settled(store, queue(store), MessageState.ACCEPTED)
        assert len(provider.asked) == FAST.at_once - FAST.kept + 1


async def test_a_place_that_gets_free_is_used_at_once(store: Store) -> None:
    """Not at the next look, though the kept places were free all the time."""
    queued = [queue(store, priority=Priority.CAMPAIGN) for _ in range(6)]
    pace = replace(FAST, poll=HOUR.total_seconds(), at_once=3, kept=1)
    async with dispatching(store, MoodyProvider(), pace):
        for one in queued:
            await settled(store, one, MessageState.ACCEPTED)


async def test_throttling_delays_no_message_beyond_our_own_delay(
    store: Store, clock: FakeClock
) -> None:
    """It is the provider that is let alone: the message may go by another, or be its trial."""
    provider = MoodyProvider(answers(Report(Result.RETRY, "429", retry_after=3600)))
    queued = queue(store)
    async with dispatching(store, provider):
        await until(lambda: message(store, queued).failures == 1)
    delay = message(store, queued).next_at - clock.now
    assert delay <= timedelta(seconds=store.rules.outbox.retry_seconds)


async def test_a_message_that_can_not_go_out_expires(store: Store, clock: FakeClock) -> None:
    store = with_outbox(store, retry_longest_seconds=60)
    provider = MoodyProvider(*[answers(RETRY)] * 5)
    queued = queue(store)
    async with dispatching(store, provider):
        await until(lambda: message(store, queued).failures == 1)
        clock.advance(timedelta(hours=24))
        await settled(store, queued, MessageState.EXPIRED)
    assert len(provider.asked) == 1
    assert message(store, queued).text_sealed is None


async def test_an_uncertain_message_is_repeated_once_with_the_same_text(
    store: Store, clock: FakeClock
) -> None:
    """D19: after 2 minutes, once, and never more."""
    provider = MoodyProvider(*[answers(UNCERTAIN)] * 9)
    queued = queue(store)
    async with dispatching(store, provider):
        await settled(store, queued, MessageState.UNCERTAIN)
        await until(lambda: provider.asked[0].attempt_id in provider.looked_up)
        clock.advance(REPEAT_WAIT - timedelta(seconds=1))
        await asyncio.sleep(0.05)
        assert len(provider.asked) == 1
        clock.advance(timedelta(seconds=1))
        await until(lambda: len(provider.asked) == 2)
        await settled(store, queued, MessageState.UNCERTAIN)
        await until(lambda: provider.asked[1].attempt_id in provider.looked_up)
        clock.advance(REPEAT_WAIT)
        await settled(store, queued, MessageState.LOST)
        clock.advance(timedelta(hours=1))
        await asyncio.sleep(0.05)
    first, second = provider.asked
    assert first.text.reveal() == second.text.reveal()
    assert first.attempt_id != second.attempt_id


async def test_one_that_the_provider_has_is_not_repeated(store: Store, clock: FakeClock) -> None:
    provider = MoodyProvider(answers(UNCERTAIN), fate=ACCEPTED)
    queued = queue(store)
    async with dispatching(store, provider):
        await settled(store, queued, MessageState.ACCEPTED)
        clock.advance(timedelta(hours=1))
        await asyncio.sleep(0.05)
    assert len(provider.asked) == 1
    assert provider.looked_up == [provider.asked[0].attempt_id]


async def test_one_that_the_provider_surely_has_not_is_sent_at_once(
    store: Store, clock: FakeClock
) -> None:
    provider = MoodyProvider(answers(UNCERTAIN), fate=Report(Result.RETRY, "unknown-there"))
    queued = queue(store)
    async with dispatching(store, provider):
        await until(lambda: message(store, queued).failures == 1)
        clock.advance(timedelta(seconds=store.rules.outbox.retry_seconds))
        await settled(store, queued, MessageState.ACCEPTED)
    assert len(provider.asked) == 2
    assert message(store, queued).repeated is False


async def test_what_a_killed_dispatcher_held_is_looked_up_before_it_is_repeated(
    store: Store, clock: FakeClock
) -> None:
    """However long nobody was there: a look-up comes first."""
    queued = queue(store)
    outbox.claim(store, "moody", says("the text"), 1)
    clock.advance(timedelta(hours=1))
    outbox.recover(store)
    clock.advance(timedelta(hours=1))
    provider = MoodyProvider(fate=ACCEPTED)
    async with dispatching(store, provider):
        await settled(store, queued, MessageState.ACCEPTED)
    assert provider.asked == []


async def test_the_doubts_of_another_provider_are_its_own(store: Store) -> None:
    queued = queue(store)
    [claim] = outbox.claim(store, "another", says("the text"), 1)
    outbox.finish(store, claim, UNCERTAIN, 0)
    provider = MoodyProvider(fate=ACCEPTED)
    async with dispatching(store, provider):
        await asyncio.sleep(0.1)
    assert provider.looked_up == []
    assert state(store, queued) == MessageState.UNCERTAIN


@pytest.mark.parametrize("fate", [None, OSError()], ids=["can't say", "raises"])
async def test_a_look_up_without_result_changes_nothing(
    store: Store, fate: Report | Exception | None
) -> None:
    provider = MoodyProvider(answers(UNCERTAIN), fate=fate)
    queued = queue(store)
    async with dispatching(store, provider):
        await until(lambda: len(provider.looked_up) > 2)
    assert state(store, queued) == MessageState.UNCERTAIN
    assert len(attempts(store, queued)) == 1


async def test_a_provider_that_turns_us_away_is_left_alone(store: Store, clock: FakeClock) -> None:
    """Our configuration is wrong: nothing is lost, nothing is tried, the alarm sounds once."""
    provider = MoodyProvider(*[raises(ProviderStoppedError())] * 99)
    first, second = queue(store), queue(store)
    with capture_logs() as logs:
        async with dispatching(store, provider) as dispatcher:
            await until(lambda: message(store, first).failures + message(store, second).failures)
            await until(lambda: not dispatcher.working)
            asked = len(provider.asked)
            clock.advance(timedelta(hours=1))
            await asyncio.sleep(0.05)
    assert len(provider.asked) == asked <= 2
    assert [state(store, one) for one in (first, second)] == [MessageState.QUEUED] * 2
    assert [log["event"] for log in logs if log["log_level"] == "critical"] == ["provider_stopped"]


async def test_no_more_than_a_few_are_under_way(store: Store) -> None:
    provider = MoodyProvider(*[hangs] * 3)
    for _ in range(10):
        queue(store)
    pace = Pace(at_once=3, poll=0.005, look_up=1, stop=0.1)
    async with dispatching(store, provider, pace):
        await until(lambda: len(provider.asked) == 3)
        await asyncio.sleep(0.05)
        assert len(provider.asked) == 3


async def test_a_stop_lets_what_is_under_way_end_and_leaves_the_rest(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = asyncio.Event()
    provider = MoodyProvider(answers_once(answered, ACCEPTED), hangs)
    both = queue(store), queue(store)

    def states() -> list[str]:
        return sorted(state(store, one) for one in both)

    pace = replace(FAST, at_once=2, stop=10)  # less than the provider has for an answer
    async with dispatching(store, provider, pace) as dispatcher:
        await until(lambda: len(provider.asked) == 2)
        rest = [queue(store) for _ in range(3)]
        ending, end = asyncio.Event(), dispatcher._end_what_is_under_way

        async def tell_and_end() -> None:
            ending.set()
            await end()

        monkeypatch.setattr(dispatcher, "_end_what_is_under_way", tell_and_end)
        dispatcher.stop()
        answered.set()
        await until(lambda: states() == [MessageState.ACCEPTED, MessageState.SENDING])
        await ending.wait()  # from then on its time runs
        skip(pace.stop, monkeypatch)
    assert states() == [MessageState.ACCEPTED, MessageState.UNCERTAIN]
    assert {attempts(store, one)[0].code for one in both} == {"", "stopped"}
    assert [state(store, one) for one in rest] == [MessageState.QUEUED] * 3


async def test_a_message_claimed_while_we_stop_is_given_back(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = MoodyProvider()
    queued = queue(store)
    claim = outbox.claim
    claimed: list[object] = []

    async with dispatching(store, provider) as dispatcher:
        loop = asyncio.get_running_loop()

        def claim_and_stop(*arguments: object, **which: object) -> object:
            claims = claim(*arguments, **which)  # type: ignore[arg-type]
            loop.call_soon_threadsafe(dispatcher.stop)
            claimed.extend(claims)
            return claims

        monkeypatch.setattr(outbox, "claim", claim_and_stop)
        await until(lambda: claimed)
    assert len(claimed) == 1
    assert provider.asked == []
    assert state(store, queued) == MessageState.QUEUED


async def test_a_database_that_goes_and_comes_back_loses_no_report(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the dispatcher knows that the provider accepted: it keeps at it."""
    away = True
    finish, claim = outbox.finish_all, outbox.claim

    def unless_away(function: object) -> object:
        def call(*arguments: object, **which: object) -> object:
            if away:
                raise StoreDownError("database: away")
            return function(*arguments, **which)  # type: ignore[operator]

        return call

    provider = MoodyProvider()
    queued = queue(store)
    with capture_logs() as logs:
        monkeypatch.setattr(outbox, "finish_all", unless_away(finish))
        async with dispatching(store, provider) as dispatcher:
            await until(lambda: provider.asked)
            monkeypatch.setattr(outbox, "claim", unless_away(claim))
            monkeypatch.setattr(outbox, "doubts", unless_away(outbox.doubts))
            await until(lambda: not dispatcher.working)
            await asyncio.sleep(0.2)
            assert not dispatcher.working
            away = False
            await settled(store, queued, MessageState.ACCEPTED)
            await until(lambda: dispatcher.working)
    assert len(provider.asked) == 1
    events = [log["event"] for log in logs if log["event"].startswith("store_")]
    assert events[-2:] == ["store_away", "store_back"]


@pytest.fixture
def impatient_sqlite(
    sqlite_template: Path, tmp_path: Path, keys: KeyRing, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Store]:
    """A store on SQLite that does not wait for locks of other processes."""
    shutil.copyfile(sqlite_template, tmp_path / "store.db")
    with monkeypatch.context() as while_made:
        while_made.setattr("shared.database.WAIT_SECONDS", 0.05)
        database = Database(f"sqlite:///{tmp_path / 'store.db'}")
    yield Store(database, keys, cheap_rules(), CountingHasher(), FakeClock())
    database.close()


async def test_a_locked_sqlite_file_is_waited_for(impatient_sqlite: Store, tmp_path: Path) -> None:
    """Locked by whoever, a backup or an admin's tool: the dispatcher goes on by itself."""
    store = impatient_sqlite
    locked = asyncio.Event()
    provider = MoodyProvider(answers_once(locked, ACCEPTED))
    first = queue(store)
    with capture_logs() as logs:
        async with dispatching(store, provider) as dispatcher:
            await until(lambda: provider.asked)
            with closing(sqlite3.connect(tmp_path / "store.db")) as other:
                other.execute("BEGIN EXCLUSIVE")
                locked.set()
                await until(lambda: not dispatcher.working)
                await asyncio.sleep(0.3)
                assert state(store, first) == MessageState.SENDING
            await settled(store, first, MessageState.ACCEPTED)
            await settled(store, queue(store), MessageState.ACCEPTED)
            await until(lambda: dispatcher.working)
    assert len(provider.asked) == 2
    events = [log["event"] for log in logs if log["event"].startswith("store_")]
    assert events == ["store_away", "store_back"]


async def test_a_stop_does_not_wait_for_a_database_that_is_away(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not kept then is looked up after the lease."""

    def away(*_: object) -> None:
        raise StoreDownError("database: away")

    monkeypatch.setattr(outbox, "finish_all", away)
    provider = MoodyProvider(hangs)
    queued = [queue(store), queue(store)]
    pace = Pace(poll=0.005, look_up=1, stop=0.1, store_first=0.01)
    async with asyncio.timeout(30), dispatching(store, provider, pace):  # else it waits for ever
        await until(lambda: len(provider.asked) == 2)
    assert [state(store, one) for one in queued] == [MessageState.SENDING] * 2


async def test_a_fault_of_ours_does_not_end_the_loop(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = outbox.claim
    faults = [ValueError("a bug")]

    def fails_once(*arguments: object, **which: object) -> object:
        if faults:
            raise faults.pop()
        return claim(*arguments, **which)  # type: ignore[arg-type]

    monkeypatch.setattr(outbox, "claim", fails_once)
    queued = queue(store)
    async with dispatching(store, MoodyProvider()):
        await settled(store, queued, MessageState.ACCEPTED)


async def test_a_report_that_can_not_be_kept_leaves_the_lease_to_end(
    store: Store, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish = outbox.finish_all
    faults = [ValueError("a bug")] * 2  # beside others, then by itself

    def fails(*arguments: object) -> object:
        if faults:
            raise faults.pop()
        return finish(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(outbox, "finish_all", fails)
    provider = MoodyProvider(fate=ACCEPTED)
    queued = queue(store)
    async with dispatching(store, provider):
        await until(lambda: not faults)
        await asyncio.sleep(0.05)
        assert state(store, queued) == MessageState.SENDING
        clock.advance(timedelta(seconds=store.rules.outbox.lease_seconds))
        await settled(store, queued, MessageState.ACCEPTED)
    assert len(provider.asked) == 1


async def test_a_report_that_can_not_be_kept_does_no_harm_to_others(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish = outbox.finish_all
    queued = [queue(store) for _ in range(4)]
    together: list[int] = []

    def fails_with_the_first(store: Store, endings: Sequence[Ending]) -> object:
        together.append(len(endings))
        if queued[0] in {one.claimed.message_id for one in endings}:
            raise ValueError("a bug")
        return finish(store, endings)

    monkeypatch.setattr(outbox, "finish_all", fails_with_the_first)
    async with dispatching(store, MoodyProvider()):
        for one in queued[1:]:
            await settled(store, one, MessageState.ACCEPTED)
    assert state(store, queued[0]) == MessageState.SENDING
    assert max(together) > 1


# A clock that is wrong: nothing is sent twice for that, nor waits for ever

JUMPS = {
    "back an hour": -HOUR,
    "forward an hour": HOUR,
    "forward a day": DAY,
    "forward a year": 365 * DAY,
}


@pytest.mark.parametrize("jump", JUMPS.values(), ids=JUMPS)
async def test_a_clock_that_jumps_during_a_send(
    store: Store, clock: FakeClock, jump: timedelta
) -> None:
    """Even if the lease is over by that clock, the report that comes then is believed."""
    jumped = asyncio.Event()
    provider = MoodyProvider(answers_once(jumped, ACCEPTED))
    queued = queue(store)
    async with dispatching(store, provider):
        await until(lambda: provider.asked)
        clock.advance(jump)
        jumped.set()
        await settled(store, queued, MessageState.ACCEPTED)
        clock.advance(-jump)
        await asyncio.sleep(0.05)
    assert len(provider.asked) == 1


@pytest.mark.parametrize("jump", JUMPS.values(), ids=JUMPS)
async def test_a_lost_lease_ends_however_wrong_the_clock_was(
    store: Store, clock: FakeClock, jump: timedelta
) -> None:
    """After 30 seconds at the latest; a look-up comes before any repeat."""
    queued = queue(store)
    outbox.claim(store, "moody", says("the text"), 1)
    clock.advance(jump)
    lease = timedelta(seconds=store.rules.outbox.lease_seconds)
    provider = MoodyProvider(fate=ACCEPTED)
    async with dispatching(store, provider):
        if jump < timedelta():
            await until(lambda: message(store, queued).next_at == clock.now + lease)
            clock.advance(lease)
        await settled(store, queued, MessageState.ACCEPTED)
    assert provider.asked == []


@pytest.mark.parametrize("jump", JUMPS.values(), ids=JUMPS)
async def test_a_clock_that_jumps_repeats_an_uncertain_message_once_at_most(
    store: Store, clock: FakeClock, jump: timedelta
) -> None:
    provider = MoodyProvider(*[answers(UNCERTAIN)] * 9)
    queued = queue(store)
    async with dispatching(store, provider):
        await settled(store, queued, MessageState.UNCERTAIN)
        await until(lambda: provider.looked_up)
        for step in (jump, -jump):
            clock.advance(step)
            await asyncio.sleep(0.05)
        while state(store, queued) != MessageState.LOST:
            clock.advance(REPEAT_WAIT)
            await asyncio.sleep(0.05)
        clock.advance(-jump)
        await asyncio.sleep(0.05)
    assert len(provider.asked) <= 2


async def test_a_doubt_is_settled_however_far_the_clock_was_set_back(
    store: Store, clock: FakeClock
) -> None:
    provider = MoodyProvider(answers(UNCERTAIN))
    queued = queue(store)
    async with dispatching(store, provider):
        await settled(store, queued, MessageState.UNCERTAIN)
        clock.advance(-365 * DAY)
        provider.fate = ACCEPTED
        await settled(store, queued, MessageState.ACCEPTED)
    assert len(provider.asked) == 1


async def test_what_was_queued_goes_out_although_the_clock_was_set_back(
    store: Store, clock: FakeClock
) -> None:
    provider = MoodyProvider()
    before = queue(store)
    clock.advance(-HOUR)
    after = queue(store)
    async with dispatching(store, provider):
        await settled(store, after, MessageState.ACCEPTED)
        await settled(store, before, MessageState.ACCEPTED)
        clock.advance(HOUR)
        await asyncio.sleep(0.05)
    assert len(provider.asked) == 2


async def test_what_was_queued_has_expired_by_a_clock_a_day_ahead(
    store: Store, clock: FakeClock
) -> None:
    """It is not sent, however the clock goes on: its owner asks again."""
    provider = MoodyProvider()
    before = queue(store)
    clock.advance(DAY)
    async with dispatching(store, provider):
        await settled(store, before, MessageState.EXPIRED)
        clock.advance(-DAY)
        await asyncio.sleep(0.05)
    assert provider.asked == []


async def test_after_acceptance_the_database_holds_nothing_of_it(
    store: Store, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """D12, D16: in no file of it, the write-ahead log included."""
    accepted = Report(Result.ACCEPTED, provider_id="SM-in-clear")
    queued = queue(store)
    async with dispatching(store, MoodyProvider(answers(accepted))):
        await settled(store, queued, MessageState.ACCEPTED)
    files = [*tmp_path.glob("store.db*")]
    if not store.database.sqlite:
        server: PostgresqlServer = request.getfixturevalue("postgresql")
        server.execute("CHECKPOINT")
        files = [path for path in server.data.rglob("*") if path.is_file()]
    on_disk = {path: path.read_bytes() for path in files}
    logged = [path for path in on_disk if path.name.endswith("-wal") or "pg_wal" in path.parts]
    assert any(b"SM-in-clear" in on_disk[path] for path in logged)  # the search does find things
    for path, content in on_disk.items():
        for personal in (PASSWORD, IN_GROUPS, MOBILE[3:], "Ne le donnez jamais"):
            assert personal.encode() not in content, path


async def test_nothing_personal_is_logged(store: Store) -> None:
    provider = MoodyProvider(
        answers(RETRY), raises(ValueError(f"{MOBILE} {PASSWORD}")), answers(UNCERTAIN)
    )
    for _ in range(4):
        queue(store)
    with capture_logs() as logs:
        async with dispatching(store, provider):
            await until(lambda: len(provider.asked) >= 4)
    assert {"message_attempted", "provider_failed"} <= {log["event"] for log in logs}
    shown = repr(logs) + repr(provider.asked)
    for personal in (MOBILE, MOBILE[3:], PASSWORD, IN_GROUPS):
        assert personal not in shown


BACKOFF = {
    "first, least": (0, 0, 1.0),
    "first, most": (0, 1000, 2.0),
    "second, most": (1, 1000, 4.0),
    "fifth, half-way": (4, 500, 24.0),
    "never longer than the longest": (9, 1000, 300.0),
    "nor after days": (5000, 1000, 300.0),
}


@pytest.mark.parametrize(("failures", "drawn", "seconds"), BACKOFF.values(), ids=BACKOFF)
def test_backoff_doubles_with_jitter(failures: int, drawn: int, seconds: float) -> None:
    rules = Outbox(
        lease_seconds=30, uncertain_seconds=120, retry_seconds=2, retry_longest_seconds=300
    )
    assert backoff(rules, failures, lambda _: drawn) == pytest.approx(seconds)


def outgoing() -> Outgoing:
    text = Secret("Caf : 8392 7415, à vous")
    return Outgoing(uuid4(), MOBILE, text, "Caf", uuid4(), LIFE, QUEUED_AT)


async def test_the_file_provider_writes_a_line_and_finds_it_again(tmp_path: Path) -> None:
    path, shown = tmp_path / "sms.jsonl", list[Outgoing]()
    provider = FileProvider(path, shown.append, only_invented_people=True)
    absent, sent = outgoing(), [outgoing() for _ in range(20)]
    assert await provider.look_up(absent) is None
    reports = await asyncio.gather(*map(provider.send, sent))
    assert {report.result for report in reports} == {Result.ACCEPTED}
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert {line["attempt"] for line in lines} == {str(one.attempt_id) for one in sent}
    assert {(line["to"], line["sender"], line["text"]) for line in lines} == {
        (MOBILE, "Caf", "Caf : 8392 7415, à vous")
    }
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(shown) == 20
    assert await provider.look_up(absent) is None
    found = await provider.look_up(sent[7])
    assert found == Report(Result.ACCEPTED, provider_id=str(sent[7].attempt_id))


async def test_the_file_provider_tells_a_mail_from_an_sms(tmp_path: Path) -> None:
    path = tmp_path / "sms.jsonl"
    by_sms = FileProvider(path, str, only_invented_people=True)
    by_mail = FileProvider(path, str, Route.MAIL, only_invented_people=True)
    assert by_sms.name != by_mail.name  # each looks up its own
    await by_sms.send(outgoing())
    await by_mail.send(replace(outgoing(), destination="claire@exemple.fr", subject="Votre code"))
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [(line["to"], line["subject"]) for line in lines] == [
        (MOBILE, ""),
        ("claire@exemple.fr", "Votre code"),
    ]


@pytest.mark.parametrize("room", [0, 10], ids=["no room", "room for a part"])
async def test_a_full_disk_leaves_no_half_line_and_loses_nothing(tmp_path: Path, room: int) -> None:
    path, shown = tmp_path / "sms.jsonl", list[Outgoing]()
    provider = FileProvider(path, shown.append, only_invented_people=True)
    await provider.send(outgoing())
    before, late = path.read_bytes(), outgoing()
    with longest_file(len(before) + room):
        report = await provider.send(late)
    assert report.result is Result.RETRY
    assert path.read_bytes() == before
    assert late not in shown
    assert await provider.look_up(late) is None
    assert (await provider.send(late)).result is Result.ACCEPTED


@contextmanager
def longest_file(size: int) -> Iterator[None]:
    """Let no file grow beyond a size, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))  # Python ignores the signal
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_only_the_demonstration_writes_messages_to_a_file() -> None:
    """Nothing that serves real people can be told to."""
    root = Path(sms.__file__).parents[1]
    makers = {
        str(path.relative_to(root))
        for package in ("ivr", "shared", "sms", "svi")
        for path in (root / package).rglob("*.py")
        if "FileProvider(" in path.read_text(encoding="utf-8")
    }
    assert makers == {"svi/carriers.py", "svi/up.py"}
