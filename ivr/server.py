"""The FastAGI server: Asterisk connects for each call, which is a greenlet (design idea 1)."""

import socket
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from uuid import uuid4

import structlog

from ivr.agi import Agi, AGIError, AGIHangup
from ivr.call import Call
from ivr.dialogue import Dialogue, Trace
from ivr.hub import Hub, Waiter
from ivr.incidents import IncidentWatch, Move
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
OUT_OF_FILES_SECONDS = 0.1  # until some calls may have ended
DRAIN_SECONDS = 0.02  # between looks at whether all have
MOVED = "incident"  # the script that the dialplan asks for when a call comes back (extensions.conf)

log = structlog.get_logger(__name__)


class VoiceServer:
    """Answers calls by the script until it is stopped."""

    def __init__(
        self,
        store: Store,
        script: Script,
        address: tuple[str, int] = ("127.0.0.1", 0),
        trace: Callable[[Mapping[str, str]], Trace | None] = lambda _: None,
        move: Move | None = None,
    ) -> None:
        """Listen; `trace` gives, by a call's AGI environment, who watches it.

        Without `move` a caller hears of an incident at the next access only.
        """
        self._store = store
        self._script = script
        self._trace = trace
        self._backend = ThreadPoolExecutor(POOL_SIZE, thread_name_prefix="backend")
        self._hub = Hub()
        self._calls: set[socket.socket] = set()  # changed by the hub's thread only
        self._followed: dict[str, Call] = {}  # likewise, by call id
        self._watch = IncidentWatch(store, self._hub, self._followed, move) if move else None
        self._stopping = False  # no new calls
        self._cutting = False  # and the calls in progress are cut off
        self._listener = socket.create_server(address, backlog=BACKLOG, reuse_port=True)
        self._listener.setblocking(False)
        self._thread = threading.Thread(target=self._run, name="calls", daemon=True)

    @property
    def address(self) -> tuple[str, int]:
        """Give the host and port that Asterisk is to connect to."""
        host, port = self._listener.getsockname()
        return host, port

    @property
    def calls_in_progress(self) -> int:
        """Count the calls."""
        return len(self._calls)

    @property
    def alive(self) -> bool:
        """Say whether calls are answered."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin to answer calls."""
        self._thread.start()
        if self._watch:
            self._watch.start()

    def stop(self, grace: float, before_cut: Callable[[], None] = lambda: None) -> None:
        """Take no more calls; let those in progress end for `grace` seconds, then cut them off.

        The dialplan apologises to a caller who is cut off, once the prompt that plays has ended;
        `before_cut` may have it done sooner.
        """
        if self._watch:
            self._watch.stop()
        self._stopping = True
        with suppress(OSError):  # not connected: that is what wakes `accept`
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(grace)
        self._cutting = True
        before_cut()
        self._hub.call_soon(self._cut)
        self._thread.join()
        self._backend.shutdown()

    def _run(self) -> None:
        with closing(self._hub):
            self._accept()
            while self._calls:
                self._hub.sleep(DRAIN_SECONDS)

    def _accept(self) -> None:
        with self._listener:
            waiter = Waiter(self._hub, self._listener.fileno())
            while not self._stopping:
                try:
                    connection, _ = self._listener.accept()
                except BlockingIOError:
                    waiter.wait()
                except OSError as error:
                    if not self._stopping:
                        log.error("accept_failed", why=error.strerror)
                        self._hub.sleep(OUT_OF_FILES_SECONDS)
                else:
                    self._calls.add(connection)
                    self._hub.spawn(self._serve, connection)
            waiter.close()

    def _cut(self) -> None:
        for connection in self._calls:
            with suppress(OSError):  # it ended by itself meanwhile
                connection.shutdown(socket.SHUT_RDWR)

    def _serve(self, connection: socket.socket) -> None:
        call_id = uuid4().hex
        try:
            with structlog.contextvars.bound_contextvars(call=call_id):
                self._answer(connection, call_id)
        except Exception:  # a call's fault must not end the server
            log.exception("call_broke_off", call=call_id)
        finally:
            connection.close()
            self._calls.remove(connection)

    def _answer(self, connection: socket.socket, call_id: str) -> None:
        try:
            agi = Agi(connection, self._hub)
        except AGIError:
            log.info("not_a_call")  # hung up at once, or no Asterisk
            return
        with closing(agi):
            call = self._call(agi, call_id)
            if call is None:
                return
            self._followed[call_id] = call
            try:
                self._follow(call)
            finally:
                del self._followed[call_id]
                self._end_move(call)
                agi.close()  # first: a caller who is sent on waits for no record
                self._close(call)

    def _call(self, agi: Agi, call_id: str) -> Call | None:
        moved = agi.env.get("agi_network_script") == MOVED
        extension = agi.env.get("agi_extension", "")
        called = agi.env.get("agi_arg_1", "") if moved else extension
        line = self._script.lines.get(called)
        if line is None:
            log.error("line_unknown", hint="lines.toml names no line for the number called")
            return None
        caller_id = e164(agi.env.get("agi_callerid", ""))
        caisse = extension if moved and extension in self._script.caisses else ""
        return Call(
            agi=agi,
            dialogue=Dialogue(
                agi,
                self._script.catalogue,
                self._script.delays,
                self._backend,
                self._trace(agi.env),
            ),
            script=self._script,
            store=self._store,
            record=Recorder(call_id, called, self._store.clock(), caisse or None),
            line=line,
            origin=Origin(Channel.VOICE, caller_id, call_id),
            first_step=self._script.session_ended_step if moved else self._script.first_step,
            caisse=caisse,
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

    def _end_move(self, call: Call) -> None:
        """Wait for the move that an incident began: meanwhile the dialplan may not go on (D15)."""
        if call.moving:
            self._hub.join(call.moving)
            if call.moving.result():
                call.record.note(Outcome.CLOSED)

    def _close(self, call: Call) -> None:
        """Leave nothing of the call behind but its record."""
        record = call.record
        saving = self._backend.submit(self._save, record)
        self._hub.join(saving)
        try:
            saving.result()
        except StoreError as error:
            log.error("call_record_not_saved", why=str(error), record=record)
        outcome = record.outcome.name.lower()
        log.info("call_ended", line=record.line, outcome=outcome)
        call.dialogue.ended(outcome)

    def _save(self, record: Recorder) -> None:
        sessions.end_sessions_of_call(self._store, record.call_id)
        record.save(self._store)
