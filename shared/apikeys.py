"""Keys of the HTTP API: which client calls, and what it may do.

A key is `<id>.<secret>`; only the SHA-256 of its 256 random bits is kept, so that a stolen database
opens nothing. A client may have several: a new one is put to use before the old one is revoked.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import Row, bindparam, select, update

from shared import audit
from shared.errors import StoreError
from shared.models import ApiKey
from shared.origin import Origin
from shared.rules import Channel
from shared.secret import Secret
from shared.store import Store

CLIENT = re.compile(r"[a-z][a-z0-9-]{0,31}")
KEY = re.compile(r"([0-9a-f]{16})\.([A-Za-z0-9_-]{43})")
NO_KEY = bytes(32)  # compared with when the id is unknown; the hash of nothing


class Scope(StrEnum):
    """What a key may be used for."""

    LOGINS = "logins"  # check a password and open a session
    SESSIONS = "sessions"  # read through a session, and end it
    PASSWORDS = "passwords"  # ask for a new password of the dossier, or change it
    BASCULE = "bascule"  # make the account of a person (R18)
    RECOVERY = "recovery"  # send a person a code, or the identifier that was forgotten (R12, R22)
    CHANGES = "changes"  # follow what happens to passwords, and tell: a web stack's own (R04)
    INCIDENTS = "incidents"  # close the service and open it again, take back what was done (D15)
    MESSAGES = "messages"  # send from one's own templates, follow and cancel what one had sent
    OPT_OUTS = "opt-outs"  # end campaigns to a contact, and let them come again (R24)
    CODES = "codes"  # have contacts confirmed for purposes of one's own (R15)
    CAMPAIGNS = "campaigns"  # write the same to many (R24), from one's own templates
    CAMPAIGN_TEXTS = "campaign-texts"  # in words of one's own
    TASKS = "tasks"  # ask as an agent (R09): answers tell whether an account exists


class KeyRefusedError(StoreError):
    """A new key can't be made as it was asked for."""


@dataclass(frozen=True)
class Holder:
    """Who holds a key that is good now."""

    client: str
    scopes: frozenset[str]


def add(store: Store, client: str, scopes: Collection[Scope], life: timedelta) -> Secret:
    """Make a key and give it, for the only time; KeyRefusedError for a malformed client name."""
    if CLIENT.fullmatch(client) is None:
        raise KeyRefusedError("client : 1 à 32 caractères parmi a-z, 0-9 et -, une lettre d'abord")
    key_id, secret = secrets.token_hex(8), secrets.token_urlsafe(32)
    now = store.clock()
    key = ApiKey(
        id=key_id,
        client=client,
        key_hash=_hash(secret),
        scopes=sorted(scopes),
        created_at=now,
        expires_at=now + life,
    )
    with store.database.write() as transaction:
        transaction.add(key)
        audit.note(transaction, "api-key-added", now, Origin(Channel.ADMIN, client=client), None)
    return Secret(f"{key_id}.{secret}")


def holders(store: Store, texts: Sequence[str]) -> list[Holder | None]:
    """Say who holds each key; None if it is malformed, unknown, wrong, expired or revoked."""
    parts = [KEY.fullmatch(text) for text in texts]
    ids = sorted({one[1] for one in parts if one is not None})
    with store.database.read() as transaction:
        rows = transaction.connection().execute(_KEYS, {"ids": ids}).all()
    keys = {row.id: row for row in rows}
    return [one and _holder(keys.get(one[1]), one[2], store.clock()) for one in parts]


def _holder(key: Row[Any] | None, secret: str, now: datetime) -> Holder | None:
    right = hmac.compare_digest(key.key_hash if key else NO_KEY, _hash(secret))
    if key is None or not right or key.revoked_at is not None or key.expires_at <= now:
        return None
    return Holder(key.client, frozenset(key.scopes))


def revoke(store: Store, key_id: str) -> bool:
    """End a key at once; False if there is no such key, or it was revoked before."""
    now = store.clock()
    with store.database.write() as transaction:
        client = transaction.scalar(
            update(ApiKey)
            .where(ApiKey.id == key_id, ApiKey.revoked_at.is_(None))
            .values(revoked_at=now)
            .returning(ApiKey.client)
        )
        if client is None:
            return False
        origin = Origin(Channel.ADMIN, client=client)
        audit.note(transaction, "api-key-revoked", now, origin, None)
        return True


def every(store: Store) -> Sequence[ApiKey]:
    """Give all keys, those of a client together, the oldest first."""
    with store.database.read() as transaction:
        return transaction.scalars(select(ApiKey).order_by(ApiKey.client, ApiKey.created_at)).all()


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("ascii")).digest()


# Built once: to build it takes longer than to run it.
_KEYS = select(
    ApiKey.id,
    ApiKey.client,
    ApiKey.key_hash,
    ApiKey.scopes,
    ApiKey.expires_at,
    ApiKey.revoked_at,
).where(ApiKey.id.in_(bindparam("ids", expanding=True)))
