"""The keys that live outside the database (D13): without them a stolen database is of no use.

A process that runs learns of a new sealing key by itself: it reads the file again when that has
changed, and when it meets a version that it does not know (docs/decisions/0005).
"""

import hmac
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Self

import structlog

from shared.clock import Clock, system_clock
from shared.day_keys import DayKeys
from shared.errors import SealError, SettingsError
from shared.files import alone, read_private, remove_parts, write_whole
from shared.sealing import decode_key, encode_key, new_key, open_under, seal_under

VERSION_BYTES = 2

log = structlog.get_logger(__name__)


@dataclass
class KeyRing:
    """AEAD keys by version, the HMAC keys of blind indexes and pseudonyms, and the keys of the day.

    The indexing key is for ever; the others change by `refresh`, which replaces each of them whole.
    """

    current: int
    sealing: Mapping[int, bytes] = field(repr=False)
    indexing: bytes = field(repr=False)
    pseudonyms: bytes = field(repr=False)
    days: DayKeys = field(repr=False, compare=False)
    pseudonyms_since: datetime | None = field(default=None, repr=False)  # None: nobody knows
    path: Path | None = field(default=None, repr=False, compare=False)
    _stamp: tuple[int, int] | None = field(default=None, repr=False, compare=False)

    @classmethod
    def create(cls, path: Path, clock: Clock = system_clock) -> Self:
        """Make new keys and keep them in `path`, readable by its owner only.

        SettingsError if there are keys already: to replace them would lose all they sealed.
        """
        with changing(path):
            if path.exists():
                raise SettingsError(f"{path}: existe déjà, et n'est jamais remplacé")
            ring = cls(
                current=1,
                sealing={1: new_key()},
                indexing=new_key(),
                pseudonyms=new_key(),
                pseudonyms_since=clock(),
                days=DayKeys.beside(path),
            )
            ring.save(path)
        return ring

    @classmethod
    def load(cls, path: Path, days: DayKeys | None = None) -> Self:
        """Read the keys; SettingsError if the file is missing, damaged or readable by others.

        Those of the day are beside it, unless told otherwise.
        """
        stamp = _stamp_of(path)  # before it is read: what is written meanwhile is read again
        try:
            data = json.loads(read_private(path))
            ring = cls(
                current=int(data["current"]),
                sealing={_version(v): decode_key(key) for v, key in data["sealing"].items()},
                indexing=decode_key(data["indexing"]),
                pseudonyms=decode_key(data["pseudonyms"]),
                days=days or DayKeys.beside(path),
                pseudonyms_since=_instant(data.get("pseudonyms_since")),
                path=path,
                _stamp=stamp,
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            raise SettingsError(f"{path}: trousseau illisible ; restaurez sa sauvegarde") from None
        if ring.current not in ring.sealing:
            raise SettingsError(
                f"{path}: current: il n'y a pas de clé de scellement {ring.current}"
            )
        return ring

    def save(self, path: Path) -> None:
        """Write the keys whole; from now on this ring follows that file."""
        text = json.dumps(
            {
                "current": self.current,
                "sealing": {str(v): encode_key(key) for v, key in self.sealing.items()},
                "indexing": encode_key(self.indexing),
                "pseudonyms": encode_key(self.pseudonyms),
                "pseudonyms_since": self.pseudonyms_since and self.pseudonyms_since.isoformat(),
            },
            indent=2,
        )
        write_whole(path, text + "\n", mode=0o600)
        self.path, self._stamp = path, _stamp_of(path)

    def refresh(self) -> None:
        """Learn what the file says since it changed; if it can't be used, go on as before."""
        stamp = _stamp_of(self.path) if self.path else None
        if self.path is None or stamp is None or stamp == self._stamp:
            return
        try:
            self._follow(KeyRing.load(self.path))
        except SettingsError as error:
            log.error("key_ring_not_read_again", why=str(error))
        self._stamp = stamp  # last: till then another thread reads the file itself

    def _follow(self, ring: "KeyRing") -> None:
        """Take over what another ring says of the keys that change; SettingsError."""
        if ring.indexing != self.indexing:
            raise SettingsError("it is another installation's")
        # In this order: whoever sees the new version finds its key.
        self.sealing = ring.sealing
        self.current = ring.current
        self.pseudonyms, self.pseudonyms_since = ring.pseudonyms, ring.pseudonyms_since

    def seal(self, plain: bytes, *binding: str) -> bytes:
        """Encrypt `plain` so that it opens only with the same binding (row, column, kind)."""
        self.refresh()
        current = self.current
        return seal_under(self.sealing[current], prefix(current), plain, binding)

    def open(self, sealed: bytes, *binding: str) -> bytes:
        """Decrypt what `seal` made; SealError if it was altered or belongs elsewhere."""
        version, rest = sealed[:VERSION_BYTES], sealed[VERSION_BYTES:]
        number = int.from_bytes(version, "big")
        if number not in self.sealing:
            self.refresh()
        key = self.sealing.get(number)
        if key is None:
            raise SealError("sealed under a key that is not in the key ring")
        return open_under(key, version, rest, binding)

    def index(self, kind: str, value: str) -> bytes:
        """Give a keyed blind index: equal values can be found, none can be read (32 bytes)."""
        return hmac.digest(self.indexing, f"{kind}\x1f{value}".encode(), "sha256")

    def pseudonym(self, value: str) -> str:
        """Give the name under which call records know `value` (D16): 16 hexadecimal digits."""
        self.refresh()
        return hmac.digest(self.pseudonyms, value.encode(), "sha256").hex()[:16]


@contextmanager
def changing(path: Path) -> Iterator[None]:
    """Hold off whoever else changes the keys: two at once would each lose what the other wrote.

    SettingsError if somebody is at it. What a change that was killed left is deleted: it may hold
    keys that were to be destroyed.
    """
    busy = SettingsError(f"{path}: une autre commande change les clés ; relancez après elle")
    with alone(path.parent, busy):
        remove_parts(path)
        yield


def prefix(version: int) -> bytes:
    """Give what a value sealed under this version begins with."""
    return version.to_bytes(VERSION_BYTES, "big")


def _stamp_of(path: Path) -> tuple[int, int] | None:
    """Tell one content of a file from another: it is always replaced whole."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def _version(text: str) -> int:
    version = int(text)
    if not 0 < version < 1 << 8 * VERSION_BYTES:
        raise ValueError("a version does not fit its bytes")
    return version


def _instant(text: str | None) -> datetime | None:
    if text is None:
        return None
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is None:
        raise ValueError("an instant needs its time zone")
    return instant
