"""Authenticated encryption of a value under one key, bound to the place it belongs to (D13)."""

import base64
import json
import secrets
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from shared.errors import SealError

KEY_BYTES = 32
NONCE_BYTES = 12


def seal_under(key: bytes, head: bytes, plain: bytes, binding: Sequence[str]) -> bytes:
    """Encrypt `plain` after a head in clear, which says the key and can't be changed either."""
    nonce = secrets.token_bytes(NONCE_BYTES)
    return head + nonce + AESGCM(key).encrypt(nonce, plain, _associated(head, binding))


def open_under(key: bytes, head: bytes, rest: bytes, binding: Sequence[str]) -> bytes:
    """Decrypt what stands after its head; SealError if it was altered or belongs elsewhere."""
    nonce, cipher_text = rest[:NONCE_BYTES], rest[NONCE_BYTES:]
    try:
        return AESGCM(key).decrypt(nonce, cipher_text, _associated(head, binding))
    except (InvalidTag, ValueError):
        raise SealError("altered, or not sealed for this row") from None


def new_key() -> bytes:
    """Make a key."""
    return secrets.token_bytes(KEY_BYTES)


def encode_key(key: bytes) -> str:
    """Give a key as it is written into a file."""
    return base64.b64encode(key).decode("ascii")


def decode_key(text: str) -> bytes:
    """Read a key that `encode_key` wrote; ValueError if it is none."""
    key = base64.b64decode(text, validate=True)
    if len(key) != KEY_BYTES:
        raise ValueError("a key has 32 bytes")
    return key


def _associated(head: bytes, binding: Sequence[str]) -> bytes:
    return head + json.dumps(binding).encode()
