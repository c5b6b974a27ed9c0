"""Messages into a file instead of the air: for the demonstration and for tests, never else.

The file holds passwords in clear, which is what it is for.
"""

import asyncio
import errno
import fcntl
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from shared.models import Route
from shared.outbox import Report, Result
from sms.provider import Outgoing


class FileProvider:
    """Appends each message to `path`, one JSON object a line, and shows it.

    `only_invented_people` is there to be written down by whoever makes one.
    """

    def __init__(
        self,
        path: Path,
        show: Callable[[Outgoing], object],
        route: Route = Route.SMS,
        *,
        only_invented_people: Literal[True],  # noqa: ARG002
    ) -> None:
        self.name = f"file-{route}"
        self.route = route
        self.window = None
        self._path = path
        self._show = show

    async def send(self, message: Outgoing) -> Report:
        """Write a message, lastingly: ACCEPTED; RETRY if the disk is full."""
        try:
            await asyncio.to_thread(self._append, message)
        except OSError as error:  # then nothing of it is there
            return Report(Result.RETRY, errno.errorcode.get(error.errno or 0, "unwritten"))
        self._show(message)
        return Report(Result.ACCEPTED, provider_id=str(message.attempt_id))

    async def look_up(self, message: Outgoing) -> Report | None:
        """Read whether the file has it; if not, it may still be on its way."""
        attempt = str(message.attempt_id)
        if attempt in await asyncio.to_thread(self._attempts):
            return Report(Result.ACCEPTED, provider_id=attempt)
        return None

    def _append(self, message: Outgoing) -> None:
        line = json.dumps(_as_dict(message), ensure_ascii=False).encode() + b"\n"
        handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(handle, "ab", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            before = os.fstat(handle).st_size
            try:
                if file.write(line) != len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(handle)
            except OSError:
                file.truncate(before)
                raise

    def _attempts(self) -> set[str]:
        try:
            lines = self._path.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return set()
        return {json.loads(line)["attempt"] for line in lines}


def _as_dict(message: Outgoing) -> dict[str, str]:
    return {
        "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "to": message.destination,
        "sender": message.sender,
        "subject": message.subject,
        "text": message.text.reveal(),
        "attempt": str(message.attempt_id),
    }
