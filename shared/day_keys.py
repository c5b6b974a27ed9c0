"""A key for each day's messages, destroyed when they have gone (D12, D16; docs/decisions/0006).

From then on no copy of the database tells what they said: not its WAL, nor a backup. So no backup
may hold this folder. It has one file a day, which the first process that needs it makes; nobody
keeps a key in memory, so that one that is gone from the folder is gone for every process.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Self

from shared.errors import SealError, SettingsError, StoreDownError
from shared.files import read_private, remove_parts, write_first
from shared.sealing import decode_key, encode_key, new_key, open_under, seal_under

MARK = bytes(2)  # where others have the version of their sealing key: no version is 0
HEAD_BYTES = len(MARK) + len("2021-11-02")


@dataclass(frozen=True)
class DayKeys:
    """The folder of the keys; all processes on one database have the same."""

    folder: Path

    @classmethod
    def beside(cls, ring: Path) -> Self:
        """Give where they are unless an installation has them elsewhere."""
        return cls(ring.with_name("day-keys"))

    def seal(self, day: date, plain: bytes, *binding: str) -> bytes:
        """Encrypt `plain` under that day's key so that it opens only with the same binding."""
        return seal_under(self.key(day), MARK + day.isoformat().encode(), plain, binding)

    def open(self, sealed: bytes, *binding: str) -> bytes:
        """Decrypt what `seal` made; SealError if it was altered, belongs elsewhere, or is over."""
        head, rest = sealed[:HEAD_BYTES], sealed[HEAD_BYTES:]
        day = day_of(head)
        key = self._kept(day) if day else None
        if key is None:
            raise SealError("the key of its day is gone")
        return open_under(key, head, rest, binding)

    def key(self, day: date) -> bytes:
        """Give the key of a day, the same to all; StoreDownError if it or the folder is no good."""
        try:
            key = self._kept(day) or self._made(day)
        except SealError:
            key = None
        if key is None:
            raise StoreDownError(f"{self._file(day)}: clé du jour abîmée ; supprimez ce fichier")
        return key

    def _made(self, day: date) -> bytes | None:
        """Make the key of a day, unless another process was first."""
        with self._at_hand():
            self.folder.mkdir(mode=0o700, exist_ok=True)
            write_first(self._file(day), encode_key(new_key()), mode=0o600)
        return self._kept(day)

    def days(self) -> set[date]:
        """Give the days that have a key."""
        with self._at_hand():
            found = {_day(path.name) for path in self.folder.glob("*")}
        return {day for day in found if day is not None}

    def drop(self, day: date) -> None:
        """Destroy the key of a day."""
        with self._at_hand():
            self._file(day).unlink(missing_ok=True)
            remove_parts(self._file(day))  # the same key, where its maker was killed

    def _kept(self, day: date) -> bytes | None:
        path = self._file(day)
        try:
            with self._at_hand():
                return decode_key(read_private(path)) if path.exists() else None
        except ValueError:  # no key, or no text at all
            raise SealError("the key of its day is damaged") from None

    def _file(self, day: date) -> Path:
        return self.folder / day.isoformat()

    @contextmanager
    def _at_hand(self) -> Iterator[None]:
        """Tell a folder that can't be used from a key that is gone: then messages wait."""
        try:
            yield
        except OSError as error:
            why = f"{self.folder}: clés du jour inutilisables : {error.strerror}"
            raise StoreDownError(why) from None
        except SettingsError as error:
            raise StoreDownError(str(error)) from None


def day_of(sealed: bytes) -> date | None:
    """Give the day under whose key a value is; None if it is under none."""
    if not sealed.startswith(MARK):
        return None
    return _day(sealed[len(MARK) : HEAD_BYTES].decode("ascii", errors="replace"))


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None
