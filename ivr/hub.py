"""Many calls in one thread: each is a greenlet, which lets the others run while it waits.

A greenlet has a stack of its own, so that a call reads from top to bottom as in a thread of its
own (design idea 1), without a thread's memory and without the scheduler's and the interpreter
lock's hand-over at each command. In return it may not block: work of the store goes to a pool.

Source: epoll(7); greenlet's documentation, « Switching between greenlets ».
"""

import heapq
import math
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import cached_property, partial
from itertools import count
from typing import Any

from greenlet import getcurrent, greenlet


class Wakeup:
    """An event that poll(2) can wait for; any thread may set it, even after its close."""

    def __init__(self) -> None:
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._lock = threading.Lock()  # else a late set could write to the next owner of the fd
        self._open = True

    def fileno(self) -> int:
        """Give the file descriptor, readable while the event is set."""
        return self._fd

    def set(self) -> None:
        """Wake whoever polls."""
        with self._lock:
            if self._open:
                os.eventfd_write(self._fd, 1)

    def clear(self) -> None:
        """Forget what was set so far."""
        with suppress(BlockingIOError):  # nothing was
            os.eventfd_read(self._fd)

    def close(self) -> None:
        """Free the file descriptor; safe to call twice."""
        with self._lock:
            if self._open:
                self._open = False
                os.close(self._fd)


class Hub:
    """Switches between the greenlets of one thread: that which first waits here.

    Its main greenlet may wait, too. What a spawned greenlet raises is raised there.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._on_readable: dict[int, Callable[[], None]] = {}  # by file descriptor
        self._alarms: list[tuple[float, int, Waiter]] = []  # a heap
        self._numbers = count()  # tell alarms of the same instant apart
        self._soon: deque[Callable[[], object]] = deque()
        self._wakeup = Wakeup()  # when something is to be called soon
        self.watch(self._wakeup.fileno(), self._wakeup.clear)

    def spawn(self, function: Callable[..., None], *arguments: object) -> None:
        """Run a function in a greenlet of its own, when those that run now wait."""
        self.call_soon(partial(greenlet(function, self._loop).switch, *arguments))

    def call_soon(self, function: Callable[[], object]) -> None:
        """Call a function, which may not wait, in the hub's thread; any thread may ask for it."""
        self._soon.append(function)
        self._wakeup.set()

    def join(self, future: "Future[Any]") -> None:
        """Wait until a future is done."""
        waiter = Waiter(self)
        while not future.done():
            waiter.wait(future=future)

    def sleep(self, seconds: float) -> None:
        """Let the others run for a time."""
        Waiter(self).wait(time.monotonic() + seconds)

    def close(self) -> None:
        """Free the file descriptors; whoever still waits, waits for ever."""
        self._loop.throw()
        self._wakeup.close()
        self._epoll.close()

    # For Waiter

    def switch(self) -> bool:
        """Run the others until the greenlet is switched to; give what it is switched to with."""
        readable: bool = self._loop.switch()
        return readable

    def watch(self, fd: int, on_readable: Callable[[], None]) -> None:
        """Call a function whenever something can be read from a file."""
        self._on_readable[fd] = on_readable
        self._epoll.register(fd, select.EPOLLIN)

    def forget(self, fd: int) -> None:
        """Watch a file no more."""
        del self._on_readable[fd]
        self._epoll.unregister(fd)

    def set_alarm(self, deadline: float, waiter: "Waiter") -> None:
        """Have a waiter rung at a time."""
        heapq.heappush(self._alarms, (deadline, next(self._numbers), waiter))

    @cached_property
    def _loop(self) -> greenlet:
        return greenlet(self._run)  # belongs to the thread that makes it

    def _run(self) -> None:
        while True:
            for fd, _ in self._epoll.poll(self._seconds_to_alarm()):
                self._on_readable[fd]()
            # Only now, since it may close another file of those that the poll has found.
            for _ in range(len(self._soon)):
                self._soon.popleft()()
            self._ring(time.monotonic())

    def _seconds_to_alarm(self) -> float | None:
        return max(0.0, self._alarms[0][0] - time.monotonic()) if self._alarms else None

    def _ring(self, now: float) -> None:
        while self._alarms and self._alarms[0][0] <= now:
            heapq.heappop(self._alarms)[2].ring(now)


class Waiter:
    """What one greenlet waits with: for a file, a future or a time, whichever comes first."""

    def __init__(self, hub: Hub, fd: int | None = None) -> None:
        self._hub = hub
        self._fd = fd
        self._watched = False
        self._resume: Callable[[bool], object] | None = None  # while the greenlet waits
        self._deadline = math.inf
        self._future: Future[Any] | None = None
        # Most waits end long before their time, so few of them set an alarm: none does while an
        # earlier one is still to ring. So these get ever earlier.
        self._alarms: list[float] = []

    def wait(self, deadline: float = math.inf, future: "Future[Any] | None" = None) -> bool:
        """Let others run until the file is readable (True), or else (False).

        `deadline` is of time.monotonic(). Files are looked at even when it has passed.
        """
        if self._fd is not None and not self._watched:
            self._hub.watch(self._fd, self._on_readable)
            self._watched = True
        self._deadline = deadline
        self._keep_alarm()
        self._future = future
        if future:
            future.add_done_callback(self._on_done)
        self._resume = getcurrent().switch
        return self._hub.switch()

    def close(self) -> None:
        """Forget the file, which is about to be closed; safe to call twice."""
        self._unwatch()
        self._fd = None

    def ring(self, now: float) -> None:
        """Learn from the hub that the earliest alarm has come."""
        self._alarms.pop()
        if self._deadline <= now:
            self._end_wait(readable=False)
        elif self._resume:
            self._keep_alarm()

    def _keep_alarm(self) -> None:
        if self._deadline < (self._alarms[-1] if self._alarms else math.inf):
            self._alarms.append(self._deadline)
            self._hub.set_alarm(self._deadline, self)

    def _on_readable(self) -> None:
        if self._resume:
            self._end_wait(readable=True)
        else:
            self._unwatch()  # until the next wait, or the hub would spin

    def _on_done(self, future: "Future[Any]") -> None:
        self._hub.call_soon(partial(self._done, future))

    def _done(self, future: "Future[Any]") -> None:
        if self._future is future:
            self._end_wait(readable=False)

    def _unwatch(self) -> None:
        if self._fd is not None and self._watched:
            self._hub.forget(self._fd)
            self._watched = False

    def _end_wait(self, *, readable: bool) -> None:
        switch, self._resume, self._future = self._resume, None, None
        if switch:
            switch(readable)
