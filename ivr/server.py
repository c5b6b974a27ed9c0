"""The FastAGI server: Asterisk connects for each call, which is a thread (design idea 1)."""

import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from uuid import uuid4

import structlog

from ivr.agi import Agi, AGIError, AGIHangup
from ivr.call import Call
from ivr.dialogue import Dialogue, Trace
from ivr.records import Outcome, Recorder
from ivr.script import Script
from shared import sessions
from shared.database import POOL_SIZE
from shared.errors import StoreError
from shared.identifiers import e164
from shared.origin import Origin
from shared.rules import Channel
from shared.store import Store

BACKLOG = 1024

log = structlog.get_logger(__name__)


class VoiceServer:
    """Answers calls by the script until it is stopped."""

    def __init__(
        self,
        store: Store,
        script: Script,
        address: tuple[str, int] = ("127.0.0.1", 0),
        trace: Callable[[], Trace] | None = None,
    ) -> None:
        self._store = store
        self._script = script
        self._trace = trace
        self._backend = ThreadPoolExecutor(POOL_SIZE, thread_name_prefix="backend")
        self._calls: dict[threading.Thread, socket.socket] = {}
        self._lock = threading.Lock()
        self._stopping = False  # no new calls
        self._cutting = False  # and the calls in progress are cut off
        self._listener = socket.create_server(address, backlog=BACKLOG, reuse_port=True)
        self._thread = threading.Thread(target=self._accept, name="agi-accept", daemon=True)

    @property
    def address(self) -> tuple[str, int]:
        """Give the host and port that Asterisk is to connect to."""
        host, port = self._listener.getsockname()
        return host, port

    @property
    def calls_in_progress(self) -> int:
        """Count the calls."""
        with self._lock:
            return len(self._calls)

    def start(self) -> None:
        """Begin to answer calls."""
        self._thread.start()

    def stop(self, grace: float, before_cut: Callable[[], None] = lambda: None) -> None:
        """Take no more calls; let those in progress end for `grace` seconds, then cut them off.

        The dialplan apologises to a caller who is cut off, once the prompt that plays has ended;
        `before_cut` may have it done sooner.
        """
        self._stopping = True
        with suppress(OSError):  # not connected: that is what wakes `accept`
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        deadline = time.monotonic() + grace
        while self.calls_in_progress and time.monotonic() < deadline:
            time.sleep(0.05)
        self._cutting = True
        before_cut()
        with self._lock:
            calls = dict(self._calls)
        for thread, connection in calls.items():
            with suppress(OSError):  # it ended by itself meanwhile
                connection.shutdown(socket.SHUT_RDWR)
            thread.join()
        self._backend.shutdown()

    def _accept(self) -> None:
        while not self._stopping:
            try:
                connection, _ = self._listener.accept()
            except OSError as error:
                if not self._stopping:
                    log.error("accept_failed", why=error.strerror)
                    time.sleep(0.1)  # out of file handles, say: let some calls end
                continue
            self._begin(connection)

    def _begin(self, connection: socket.socket) -> None:
        thread = threading.Thread(target=self._serve, args=[connection], daemon=True)
        with self._lock:
            self._calls[thread] = connection
        try:
            thread.start()
        except RuntimeError:  # out of threads: the dialplan apologises, and some calls will end
            log.error("call_not_begun", in_progress=self.calls_in_progress)
            connection.close()
            with self._lock:
                del self._calls[thread]

    def _serve(self, connection: socket.socket) -> None:
        call_id = uuid4().hex
        try:
            with structlog.contextvars.bound_contextvars(call=call_id):
                self._answer(connection, call_id)
        except Exception:  # a call's fault must not end the server
            log.exception("call_thread_failed", call=call_id)
        finally:
            connection.close()
            with self._lock:
                del self._calls[threading.current_thread()]

    def _answer(self, connection: socket.socket, call_id: str) -> None:
        try:
            agi = Agi(connection)
        except AGIError:
            log.info("not_a_call")  # hung up at once, or no Asterisk
            return
        try:
            call = self._call(agi, call_id)
            if call is not None:
                try:
                    self._follow(call)
                finally:
                    self._close(call)
        finally:
            agi.close()

    def _call(self, agi: Agi, call_id: str) -> Call | None:
        called = agi.env.get("agi_extension", "")
        line = self._script.lines.get(called)
        if line is None:
            log.error("line_unknown", hint="lines.toml names no line for the number called")
            return None
        caller_id = e164(agi.env.get("agi_callerid", ""))
        return Call(
            agi=agi,
            dialogue=Dialogue(
                agi,
                self._script.catalogue,
                self._script.delays,
                self._backend,
                self._trace() if self._trace else None,
            ),
            script=self._script,
            store=self._store,
            record=Recorder(call_id, called, self._store.clock()),
            line=line,
            origin=Origin(Channel.VOICE, caller_id, call_id),
        )

    def _follow(self, call: Call) -> None:
        """Play the script to its end, or to the caller's, or to an apology."""
        try:
            try:
                call.follow_script()
            except AGIHangup:
                raise
            except Exception:  # whatever broke, the caller hears an apology
                log.exception("call_failed")
                call.apologise()
        except AGIHangup:
            if self._cutting:
                call.record.note(Outcome.FAILED)

    def _close(self, call: Call) -> None:
        """Leave nothing of the call behind but its record."""
        record = call.record
        try:
            sessions.end_sessions_of_call(self._store, record.call_id)
            record.save(self._store)
        except StoreError as error:
            log.error("call_record_not_saved", why=str(error), record=record)
        outcome = record.outcome.name.lower()
        log.info("call_ended", line=record.line, outcome=outcome)
        call.dialogue.ended(outcome)
