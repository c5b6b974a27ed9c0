"""The keys that live outside the database (D13): without them a stolen database is of no use."""

import base64
import hmac
import json
import os
import secrets
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from shared.errors import SealError, SettingsError
from shared.files import write_whole

KEY_BYTES = 32
NONCE_BYTES = 12
VERSION_BYTES = 2


@dataclass(frozen=True)
class KeyRing:
    """AEAD keys by version, and the HMAC keys of blind indexes and pseudonyms."""

    current: int
    sealing: Mapping[int, bytes] = field(repr=False)
    indexing: bytes = field(repr=False)
    pseudonyms: bytes = field(repr=False)

    @classmethod
    def create(cls, path: Path) -> Self:
        """Make new keys and keep them in `path`, readable by its owner only.

        SettingsError if there are keys already: to replace them would lose all they sealed.
        """
        if path.exists():
            raise SettingsError(f"{path}: exists already, and is never replaced")
        ring = cls(
            current=1,
            sealing={1: secrets.token_bytes(KEY_BYTES)},
            indexing=secrets.token_bytes(KEY_BYTES),
            pseudonyms=secrets.token_bytes(KEY_BYTES),
        )
        text = json.dumps(
            {
                "current": ring.current,
                "sealing": {str(v): _encode(key) for v, key in ring.sealing.items()},
                "indexing": _encode(ring.indexing),
                "pseudonyms": _encode(ring.pseudonyms),
            },
            indent=2,
        )
        write_whole(path, text + "\n", mode=0o600)
        return ring

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the keys; SettingsError if the file is missing, damaged or readable by others."""
        try:
            if stat.S_IMODE(os.stat(path).st_mode) & 0o077:
                raise SettingsError(f"{path}: others may read it; run: chmod 600 {path}")
            data = json.loads(path.read_text(encoding="utf-8"))
            ring = cls(
                current=int(data["current"]),
                sealing={_version(v): _decode(key) for v, key in data["sealing"].items()},
                indexing=_decode(data["indexing"]),
                pseudonyms=_decode(data["pseudonyms"]),
            )
        except OSError as error:
            raise SettingsError(f"{path}: cannot be read: {error.strerror}") from None
        except (ValueError, KeyError, TypeError, AttributeError):
            raise SettingsError(f"{path}: not a key ring; restore it from its backup") from None
        if ring.current not in ring.sealing:
            raise SettingsError(f"{path}: current: there is no sealing key {ring.current}")
        return ring

    def seal(self, plain: bytes, *binding: str) -> bytes:
        """Encrypt `plain` so that it opens only with the same binding (row, column, kind)."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        version = self.current.to_bytes(VERSION_BYTES, "big")
        cipher = AESGCM(self.sealing[self.current])
        return version + nonce + cipher.encrypt(nonce, plain, _associated(version, binding))

    def open(self, sealed: bytes, *binding: str) -> bytes:
        """Decrypt what `seal` made; SealError if it was altered or belongs elsewhere."""
        version, rest = sealed[:VERSION_BYTES], sealed[VERSION_BYTES:]
        key = self.sealing.get(int.from_bytes(version, "big"))
        if key is None:
            raise SealError("sealed under a key that is not in the key ring")
        nonce, cipher_text = rest[:NONCE_BYTES], rest[NONCE_BYTES:]
        try:
            return AESGCM(key).decrypt(nonce, cipher_text, _associated(version, binding))
        except (InvalidTag, ValueError):
            raise SealError("altered, or not sealed for this row") from None

    def index(self, kind: str, value: str) -> bytes:
        """Give a keyed blind index: equal values can be found, none can be read (32 bytes)."""
        return hmac.digest(self.indexing, f"{kind}\x1f{value}".encode(), "sha256")

    def pseudonym(self, value: str) -> str:
        """Give the name under which call records know `value` (D16): 16 hexadecimal digits."""
        return hmac.digest(self.pseudonyms, value.encode(), "sha256").hex()[:16]


def _associated(version: bytes, binding: tuple[str, ...]) -> bytes:
    return version + json.dumps(binding).encode()


def _version(text: str) -> int:
    version = int(text)
    if not 0 < version < 1 << 8 * VERSION_BYTES:
        raise ValueError("a version does not fit its bytes")
    return version


def _encode(key: bytes) -> str:
    return base64.b64encode(key).decode("ascii")


def _decode(text: str) -> bytes:
    key = base64.b64decode(text, validate=True)
    if len(key) != KEY_BYTES:
        raise ValueError("a key has 32 bytes")
    return key
