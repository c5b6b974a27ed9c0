"""Greenlets that wait for sockets, futures and times, in one thread."""

import os
import select
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import ExitStack, closing

import pytest

from ivr.hub import Hub, Waiter, Wakeup

LONG = 60.0  # seconds of a wait that is not meant to pass
A_WHILE = 0.1


@pytest.fixture
def hub() -> Iterator[Hub]:
    with closing(Hub()) as hub:
        yield hub


@pytest.fixture
def pair(hub: Hub) -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket.socketpair()
    with near, far:
        near.setblocking(False)
        yield near, far


def from_now(seconds: float) -> float:
    return time.monotonic() + seconds


# What a wait waits for


def test_a_socket_that_can_be_read(hub: Hub, pair: tuple[socket.socket, socket.socket]) -> None:
    near, far = pair
    far.send(b"x")
    assert Waiter(hub, near.fileno()).wait(from_now(LONG))


@pytest.mark.parametrize("ended_by", ["close", "shutdown"])
def test_a_socket_that_ends(
    hub: Hub, pair: tuple[socket.socket, socket.socket], ended_by: str
) -> None:
    near, far = pair
    far.close() if ended_by == "close" else far.shutdown(socket.SHUT_WR)
    assert Waiter(hub, near.fileno()).wait(from_now(LONG))


@pytest.mark.parametrize("deadline", [A_WHILE, 0.0, -LONG], ids=["later", "now", "passed"])
def test_a_deadline(hub: Hub, pair: tuple[socket.socket, socket.socket], deadline: float) -> None:
    waiter, began = Waiter(hub, pair[0].fileno()), time.monotonic()
    assert not waiter.wait(began + deadline)
    assert max(0.0, deadline) <= time.monotonic() - began < LONG


def test_what_came_before_a_deadline_that_has_passed_is_seen(
    hub: Hub, pair: tuple[socket.socket, socket.socket]
) -> None:
    near, far = pair
    far.send(b"x")
    assert Waiter(hub, near.fileno()).wait(from_now(-LONG))


def test_deadlines_of_any_order(hub: Hub) -> None:
    """The alarm of a wait that ended early neither ends a later one nor takes its place."""
    waiter, done = Waiter(hub), Future[None]()
    done.set_result(None)
    waiter.wait(from_now(0.15), done)
    for seconds in (0.1, 0.2, 0.05, 0.3, 0.0):
        began = time.monotonic()
        waiter.wait(began + seconds)
        assert seconds <= time.monotonic() - began < LONG


def test_waits_that_end_early_leave_few_alarms(hub: Hub) -> None:
    """A call makes thousands of commands within the time-out of the first."""
    done: Future[None] = Future()
    done.set_result(None)
    waiter = Waiter(hub)
    for _ in range(1_000):
        for seconds in (LONG, LONG / 2, 2 * LONG):
            waiter.wait(from_now(seconds), done)
    assert len(hub._alarms) <= 2


def test_a_future_done_by_another_thread(hub: Hub) -> None:
    future: Future[None] = Future()
    timer = threading.Timer(A_WHILE, future.set_result, [None])
    timer.start()
    assert not Waiter(hub).wait(from_now(LONG), future)
    timer.join()
    assert future.done()


@pytest.mark.parametrize("how", ["result", "exception", "cancelled"])
def test_joining_a_future(hub: Hub, how: str) -> None:
    future: Future[None] = Future()
    if how == "cancelled":
        end = threading.Timer(A_WHILE, future.cancel)
    elif how == "exception":
        end = threading.Timer(A_WHILE, future.set_exception, [RuntimeError()])
    else:
        end = threading.Timer(A_WHILE, future.set_result, [None])
    end.start()
    hub.join(future)
    end.join()
    assert future.done()


def test_a_future_of_before_ends_no_wait(hub: Hub) -> None:
    waiter = Waiter(hub)
    earlier: Future[None] = Future()
    waiter.wait(from_now(0.0), earlier)
    earlier.set_result(None)
    began = time.monotonic()
    waiter.wait(began + A_WHILE, Future())
    assert time.monotonic() - began >= A_WHILE


# Others meanwhile


def test_greenlets_take_turns(hub: Hub) -> None:
    said: list[str] = []
    ended = [Future[None](), Future[None]()]

    def speak(name: str, end: "Future[None]") -> None:
        for number in range(3):
            said.append(f"{name}{number}")
            hub.sleep(0.0)
        end.set_result(None)

    hub.spawn(speak, "a", ended[0])
    hub.spawn(speak, "b", ended[1])
    for end in ended:
        hub.join(end)
    assert said == ["a0", "b0", "a1", "b1", "a2", "b2"]


def test_many_greenlets_each_read_their_own_socket(hub: Hub) -> None:
    read: dict[int, bytes] = {}
    ended: Future[None] = Future()
    with ExitStack() as stack:
        pairs = [socket.socketpair() for _ in range(400)]
        for both in pairs:
            for end in both:
                stack.enter_context(end)

        def receive(number: int) -> None:
            waiter = Waiter(hub, pairs[number][0].fileno())
            assert waiter.wait(from_now(LONG))
            read[number] = pairs[number][0].recv(16)
            waiter.close()
            if len(read) == len(pairs):
                ended.set_result(None)

        for number in range(len(pairs)):
            hub.spawn(receive, number)
        hub.sleep(0.0)
        for number, (_, far) in enumerate(pairs):
            far.send(str(number).encode())
        hub.join(ended)
    assert read == {number: str(number).encode() for number in range(len(pairs))}


def test_what_a_greenlet_raises_is_raised_by_who_waits(hub: Hub) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    hub.spawn(fail)
    with pytest.raises(ZeroDivisionError):
        hub.sleep(LONG)


def test_a_socket_nobody_reads_keeps_nobody_busy(
    hub: Hub, pair: tuple[socket.socket, socket.socket]
) -> None:
    near, far = pair
    waiter = Waiter(hub, near.fileno())
    waiter.wait(from_now(0.0))
    far.send(b"x")
    began = time.thread_time()
    hub.sleep(0.5)
    assert time.thread_time() - began < 0.1  # seconds at work
    assert waiter.wait(from_now(LONG))


def test_a_closed_waiter_leaves_its_number_to_another(hub: Hub) -> None:
    for _ in range(2):
        near, far = socket.socketpair()
        with near, far, closing(Waiter(hub, near.fileno())) as waiter:
            assert not waiter.wait(from_now(0.0))
            far.send(b"x")
            assert waiter.wait(from_now(LONG))


# Its end


def test_nothing_stays_open(hub: Hub) -> None:
    before = os.listdir("/proc/self/fd")
    with closing(Hub()) as other:
        other.sleep(0.0)
    with closing(Hub()):
        pass
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_a_call_asked_of_a_closed_hub_is_none() -> None:
    called: list[None] = []
    hub = Hub()
    hub.close()
    hub.call_soon(lambda: called.append(None))
    assert called == []


def test_a_wakeup_after_its_close_wakes_nobody_else() -> None:
    wakeup = Wakeup()
    descriptor = wakeup.fileno()
    wakeup.close()
    reused = os.eventfd(0)
    try:
        assert reused == descriptor
        wakeup.set()
        assert not select.select([reused], [], [], 0)[0]
    finally:
        os.close(reused)
