"""The tables of the store.

What D13 seals is a `bytes` column named `…_sealed`; its blind index, where one is needed, stands
beside it. The numéro d'allocataire is the only identifier in clear.
"""

from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import JSON, DateTime, Dialect, ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator


class UtcDateTime(TypeDecorator[datetime]):
    """An aware instant, kept as UTC; SQLite itself knows no time zones."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse a naive time: nobody could say when it was."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("an instant needs its time zone")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give an aware instant on both databases."""
        if value is None:
            return None
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


class Base(DeclarativeBase):
    """Base of the tables."""

    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy's own declaration
        datetime: UtcDateTime,
        list[Any]: JSON,
        dict[str, Any]: JSON,
    }


class Role(StrEnum):
    """What a person is in the dossier (R26 to R31)."""

    ALLOCATAIRE = "allocataire"
    CONJOINT = "conjoint"
    CONJOINT_ALLOCATAIRE = "conjoint-allocataire"
    AUTRE = "autre"
    TUTEUR = "tuteur"


class Situation(StrEnum):
    """Where the dossier stands: affiliated, or a first claim under way (R32)."""

    AFFILIE = "affilie"
    PRIMO_DEMANDEUR = "primo-demandeur"


class CredentialState(StrEnum):
    """Life of a credential; an ended one never comes back."""

    ACTIVE = "active"  # it opens sessions
    PENDING = "pending"  # issued; its first use makes it active and ends the others (D03)
    ENDED = "ended"  # replaced, revoked or expired


class Account(Base):
    """A dossier of a caisse; its key is (caisse, number) (D01)."""

    __tablename__ = "account"
    __table_args__ = (UniqueConstraint("caisse", "number"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    caisse: Mapped[str]
    number: Mapped[str]
    situation: Mapped[str]
    epoch: Mapped[int] = mapped_column(default=0)  # raised to end this dossier's sessions (D15)
    created_at: Mapped[datetime]


class Person(Base):
    """A person of a dossier, with contacts."""

    __tablename__ = "person"
    __table_args__ = (
        UniqueConstraint("account_id", "role", "nir_index"),
        UniqueConstraint("account_id", "role", "identity_index"),
        Index("ix_person_account", "account_id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    account_id: Mapped[UUID] = mapped_column(ForeignKey("account.id"))
    role: Mapped[str]
    nir_sealed: Mapped[bytes | None]
    nir_index: Mapped[bytes | None]
    identity_sealed: Mapped[bytes | None]  # JSON: surname, given_names, birth_date
    identity_index: Mapped[bytes | None]
    mobile_sealed: Mapped[bytes | None]
    mobile_index: Mapped[bytes | None]
    mobile_since: Mapped[date | None]
    mobile_before_sealed: Mapped[bytes | None]  # the one that `mobile` replaced (D04)
    landline_sealed: Mapped[bytes | None]
    landline_index: Mapped[bytes | None]
    email_sealed: Mapped[bytes | None]
    address_sealed: Mapped[bytes | None]  # JSON: line1, line2, postcode, city
    address_since: Mapped[date | None]


class Credential(Base):
    """A secret that opens a dossier: only its Argon2id hash, sealed to this very row (D13)."""

    __tablename__ = "credential"
    __table_args__ = (
        Index(
            "ix_credential_one_active",
            "account_id",
            "kind",
            unique=True,
            sqlite_where=text("state = 'active'"),
            postgresql_where=text("state = 'active'"),
        ),
        Index(
            "ix_credential_one_pending",
            "account_id",
            "kind",
            "route",
            unique=True,
            sqlite_where=text("state = 'pending'"),
            postgresql_where=text("state = 'pending'"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    account_id: Mapped[UUID] = mapped_column(ForeignKey("account.id"))
    kind: Mapped[str]
    state: Mapped[str]
    version: Mapped[int] = mapped_column(default=1)  # of the stored hash; compare-and-swap
    hash_sealed: Mapped[bytes]
    route: Mapped[str | None]  # by which message it goes to its owner; one pending for each
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]


class Route(StrEnum):
    """How a message goes to its owner."""

    SMS = "sms"
    LETTER = "letter"


class MessageState(StrEnum):
    """Life of a message; the last seven are final."""

    QUEUED = "queued"  # waits for a dispatcher, or for its next try
    SENDING = "sending"  # a dispatcher holds it; the provider may have been asked already
    UNCERTAIN = "uncertain"  # asked, and nobody knows with what result (D19)
    ACCEPTED = "accepted"  # the provider has it; final unless a receipt says more
    DELIVERED = "delivered"
    UNDELIVERED = "undelivered"
    REFUSED = "refused"  # the provider will not take it
    EXPIRED = "expired"  # its life ended before a provider took it
    REPLACED = "replaced"  # a newer one went in its place (D03)
    LOST = "lost"  # uncertain to the end


class Message(Base):
    """A message to a person, in the outbox or gone (design idea 11).

    `content_sealed` holds what the template is filled with, `text_sealed` the text from the first
    claim on, so that every try says the same; both are empty once nothing needs them.
    """

    __tablename__ = "message"
    __table_args__ = (
        Index("ix_message_due", "state", "next_at"),
        Index("ix_message_account", "account_id", "created_at"),
        Index("ix_message_destination", "destination_index", "created_at"),
        Index("ix_message_created", "created_at"),
        Index("ix_message_provider", "provider", "provider_id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    route: Mapped[str]
    template: Mapped[str]
    account_id: Mapped[UUID | None] = mapped_column(ForeignKey("account.id"))
    known_caller: Mapped[bool]
    destination_sealed: Mapped[bytes | None]
    destination_index: Mapped[bytes | None]
    content_sealed: Mapped[bytes | None]
    text_sealed: Mapped[bytes | None]
    state: Mapped[str]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    next_at: Mapped[datetime]  # when it is due, or its lease ends, or it stops being uncertain
    claims: Mapped[int] = mapped_column(default=0)  # fences off a dispatcher that lost its lease
    failures: Mapped[int] = mapped_column(default=0)
    repeated: Mapped[bool] = mapped_column(default=False)  # sent once more after D19's wait
    provider: Mapped[str | None]
    provider_id: Mapped[str | None]
    ended_at: Mapped[datetime | None]


class SendAttempt(Base):
    """One time that a provider was asked; committed before it is."""

    __tablename__ = "send_attempt"
    __table_args__ = (Index("ix_send_attempt_message", "message_id"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    message_id: Mapped[UUID] = mapped_column(ForeignKey("message.id"))
    claim: Mapped[int]
    provider: Mapped[str]
    started_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    result: Mapped[str | None]
    code: Mapped[str | None]


class ThrottleHit(Base):
    """One login attempt in one bucket (D05); `counted` is false for one that was not allowed."""

    __tablename__ = "throttle_hit"
    __table_args__ = (
        Index("ix_throttle_hit_bucket", "bucket", "key", "at"),
        Index("ix_throttle_hit_attempt", "attempt_id"),
        Index("ix_throttle_hit_at", "at"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    attempt_id: Mapped[UUID]
    bucket: Mapped[str]
    key: Mapped[bytes]
    subject: Mapped[bytes]  # what was tried, for « accounts with failures »
    counted: Mapped[bool]
    at: Mapped[datetime]


class ChannelHour(Base):
    """Logins of one channel in one hour, for the alarm and the breaker of D05."""

    __tablename__ = "channel_hour"

    channel: Mapped[str] = mapped_column(primary_key=True)
    hour: Mapped[datetime] = mapped_column(primary_key=True)
    attempts: Mapped[int]
    failures: Mapped[int]
    alarmed: Mapped[bool]  # the alarm of this hour was raised


class Epoch(Base):
    """A counter whose rise ends every session of its scope at once (D15)."""

    __tablename__ = "epoch"

    scope: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[int]


class LoginSession(Base):
    """An open session: the only way to a dossier (design idea 3). Its token is kept as a hash."""

    __tablename__ = "session"

    token_hash: Mapped[bytes] = mapped_column(primary_key=True)
    account_id: Mapped[UUID] = mapped_column(ForeignKey("account.id"))
    channel: Mapped[str]
    call_id: Mapped[str | None] = mapped_column(index=True)
    account_epoch: Mapped[int]
    service_epoch: Mapped[int]
    opened_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]


class Payment(Base):
    """A payment made to a dossier; amounts in euro cents."""

    __tablename__ = "payment"
    __table_args__ = (UniqueConstraint("account_id", "paid_on"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[UUID] = mapped_column(ForeignKey("account.id"))
    paid_on: Mapped[date]
    cents: Mapped[int]


class AuditEntry(Base):
    """Something changed or read; rows are only ever added (D15, D16)."""

    __tablename__ = "audit"

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    event: Mapped[str]
    channel: Mapped[str]
    account_id: Mapped[UUID | None]
    call_id: Mapped[str | None]


class CallRecord(Base):
    """One telephone call, with the number keyed as a pseudonym (D16) and no caller id."""

    __tablename__ = "call_record"

    id: Mapped[str] = mapped_column(primary_key=True)
    started_at: Mapped[datetime]
    ended_at: Mapped[datetime]
    line: Mapped[str]
    caisse: Mapped[str | None]
    number_pseudonym: Mapped[str | None]
    steps: Mapped[list[Any]]  # [step, exit, seconds] each
    outcome: Mapped[str]
