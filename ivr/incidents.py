"""Calls in progress are moved on when an incident is raised, whoever raised it (D15).

A long prompt can't be stopped by this end of an AGI session: Asterisk's manager takes the channel
out of it, to the dialplan's context `incident`, which connects anew (`session_ended_step`).
"""

import threading
from collections.abc import Callable, Mapping, Set
from concurrent.futures import Future

import structlog

from ivr.ami import AsteriskDownError
from ivr.call import Call
from ivr.hub import Hub
from shared import incident
from shared.errors import StoreError
from shared.store import Store

LOOK_SECONDS = 1.0

Move = Callable[[str, str], bool]
"""Takes a channel, in the name of a caisse, to the context `incident`; False if it is gone.

AsteriskDownError; ValueError for what can't be a channel.
"""

log = structlog.get_logger(__name__)


class IncidentWatch:
    """A thread that asks once a second, while there are calls, what is closed.

    It does not ask what is new: nobody gets into what is closed, so whoever still is in it was
    there before, or could not be moved at the last look. `calls` belongs to the hub's thread.
    """

    def __init__(self, store: Store, hub: Hub, calls: Mapping[str, Call], move: Move) -> None:
        self._store = store
        self._hub = hub
        self._calls = calls
        self._move = move
        self._why_not = ""  # the last failure, logged once
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="incidents", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; the hub must still run, for the look that it may be at."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(LOOK_SECONDS):
            if not self._calls:
                continue
            try:
                self._look()
            except Exception:  # a fault of ours: the next look may do better
                log.exception("incident_watch_failed")

    def _look(self) -> None:
        try:
            closed = {raised.scope for raised in incident.standing(self._store)}
        except StoreError as error:
            self._report(str(error))
            return
        if closed:
            for call, moving in self._stopped(closed):
                moving.set_result(self._moved(call))

    def _stopped(self, closed: Set[str]) -> list[tuple[Call, "Future[bool]"]]:
        """Have the calls found that are to be moved, in the hub's thread: none goes on meanwhile.

        From now on they wait for their move before they leave their AGI session: else one could be
        taken away from an adviser.
        """
        found: Future[list[tuple[Call, Future[bool]]]] = Future()

        def find() -> None:
            stopped = [call for call in self._calls.values() if call.stopped_by(closed)]
            found.set_result([(call, call.begin_move()) for call in stopped])

        self._hub.call_soon(find)
        return found.result()

    def _moved(self, call: Call) -> bool:
        """Move a call; one that can't be is told at its next access."""
        try:
            moved = self._move(call.channel, call.caisse)
        except (AsteriskDownError, ValueError) as error:
            self._report(str(error))
            return False
        except Exception:  # a fault of ours: the call must not wait for its move for ever
            log.exception("move_failed")
            return False
        self._why_not = ""
        return moved

    def _report(self, reason: str) -> None:
        """Log a reason once, not at each look."""
        if reason != self._why_not:
            log.warning("calls_not_moved", why=reason)
        self._why_not = reason
