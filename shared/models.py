"""The tables of the store.

What D13 seals is a `bytes` column named `…_sealed`; its blind index, where one is needed, stands
beside it. The numéro d'allocataire is the only identifier in clear.
"""

from datetime import UTC, date, datetime
from enum import IntEnum, StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import (
    JSON,
    CheckConstraint,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    UniqueConstraint,
    text,
)
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


class CredentialOrigin(StrEnum):
    """What a credential was issued for."""

    OWNER = "owner"  # created by its owner on the web (R02, R18)
    FORGOTTEN = "forgotten"  # R10, R11
    REGISTRATION = "registration"  # R09
    AGENT = "agent"  # R09: an agent's request
    SEPARATION = "separation"  # R08
    MUTATION = "mutation"  # R08
    INCIDENT = "incident"  # D15: in the place of one created while the service was half open
    IMPORTED = "imported"  # from the system before this one
    WEB = "web"  # created on the web stack's side, which told us
    GIVEN = "given"  # by a command, for demonstration and tests (D12)


class EndedBy(StrEnum):
    """Why a credential ended."""

    REPLACED = "replaced"  # by a newer one
    REVOKED = "revoked"
    WEB = "web"  # the web stack said so
    SEPARATION = "separation"
    MUTATION = "mutation"
    INCIDENT = "incident"
    ERASED = "erased"  # with the dossier's people (D16)


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
    closed_at: Mapped[datetime | None]  # R08: kept for its history, opened by nothing
    moved_to: Mapped[UUID | None] = mapped_column(ForeignKey("account.id"))


class Person(Base):
    """A person of a dossier, with contacts."""

    __tablename__ = "person"
    __table_args__ = (
        UniqueConstraint("account_id", "role", "nir_index"),
        UniqueConstraint("account_id", "role", "identity_index"),
        Index("ix_person_account", "account_id"),
        Index("ix_person_nir", "nir_index"),
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
    email_since: Mapped[date | None]  # the day it was changed (D04)
    address_sealed: Mapped[bytes | None]  # JSON: line1, line2, postcode, city
    address_since: Mapped[date | None]
    address_before_sealed: Mapped[bytes | None]  # the one that `address` replaced (D04)
    delegated_at: Mapped[datetime | None]  # the conjoint's délégation de gestion (R26, R27)


class WebAccount(Base):
    """A person's own account on the web (R17, R18), known by NIR or provisional identifier (R20).

    Its dossiers are those of the persons with that NIR, or of `person_id` while there is none.
    """

    __tablename__ = "web_account"
    __table_args__ = (
        Index(
            "ix_web_account_nir",
            "nir_index",
            unique=True,
            sqlite_where=text("ended_at IS NULL"),
            postgresql_where=text("ended_at IS NULL"),
        ),
        Index("ix_web_account_provisional", "provisional_index", unique=True),
        Index("ix_web_account_person", "person_id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    nir_index: Mapped[bytes | None]
    provisional_index: Mapped[bytes | None]
    provisional_sealed: Mapped[bytes | None]
    person_id: Mapped[UUID | None] = mapped_column(ForeignKey("person.id"))
    created_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]


class Credential(Base):
    """A secret that opens a dossier: only its Argon2id hash, sealed to this very row (D13).

    It is a dossier's (`account_id`), or a person's on the web (`web_account_id`).
    """

    __tablename__ = "credential"
    __table_args__ = (
        Index("ix_credential_account", "account_id"),
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
        Index(
            "ix_credential_one_web",
            "web_account_id",
            unique=True,
            sqlite_where=text("state = 'active'"),
            postgresql_where=text("state = 'active'"),
        ),
        CheckConstraint(
            "(account_id IS NULL) <> (web_account_id IS NULL)", name="ck_credential_one_owner"
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    account_id: Mapped[UUID | None] = mapped_column(ForeignKey("account.id"))
    web_account_id: Mapped[UUID | None] = mapped_column(ForeignKey("web_account.id"))
    kind: Mapped[str]
    state: Mapped[str]
    origin: Mapped[str]
    provisional: Mapped[bool] = mapped_column(default=False)  # to be changed on the web (R09)
    version: Mapped[int] = mapped_column(default=1)  # of the stored hash; compare-and-swap
    hash_sealed: Mapped[bytes]
    route: Mapped[str | None]  # by which message it goes to its owner; one pending for each
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    first_used_at: Mapped[datetime | None]  # a password's first use ends the old code (D09)
    ended_at: Mapped[datetime | None]
    ended_by: Mapped[str | None]


class VerificationCode(Base):
    """A code on its way to a contact (R15); only its keyed hash is kept.

    One that was not `sent` was asked for in vain: nothing tells it from the others (D04). One that
    an API client had sent, to a contact of its own, is of no person, and its purpose has the
    client's name. Wrong entries are counted by the throttles (D05).
    """

    __tablename__ = "verification_code"
    __table_args__ = (
        Index("ix_verification_code_contact", "contact_index", "created_at"),
        Index("ix_verification_code_asked_by", "asked_by", "created_at"),
        Index(
            "ix_verification_code_of_nobody",
            "created_at",
            sqlite_where=text("person_id IS NULL"),
            postgresql_where=text("person_id IS NULL"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    purpose: Mapped[str]
    person_id: Mapped[UUID | None] = mapped_column(ForeignKey("person.id"))
    sent: Mapped[bool]
    contact_index: Mapped[bytes]
    asked_by: Mapped[bytes]  # of the identifier given and the caller: who may enter it by telephone
    code_mac: Mapped[bytes]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]


class Continuation(Base):
    """Steps on the web that end with a password: how far a session for them has got (R12, R18)."""

    __tablename__ = "continuation"

    token_hash: Mapped[bytes] = mapped_column(
        ForeignKey("session.token_hash", ondelete="CASCADE"), primary_key=True
    )
    purpose: Mapped[str]
    terms_accepted_at: Mapped[datetime | None]
    hash_sealed: Mapped[bytes | None]  # of the password chosen, until the account is made
    contact_confirmed_at: Mapped[datetime | None]


class ChangeEvent(StrEnum):
    """What can happen to a credential, and the last to a dossier, each once."""

    ISSUED = "issued"
    FIRST_USED = "first-used"
    ENDED = "ended"
    ERASED = "erased"


class Change(Base):
    """One thing that happened to a dossier's credentials, in the order of `id`: the change feed.

    The end of the dossier itself has its own id in the place of a credential's.

    Written under one lock, so that whoever reads after an id misses nothing.
    """

    __tablename__ = "change"
    __table_args__ = (UniqueConstraint("credential_id", "event"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    event: Mapped[str]
    account_id: Mapped[UUID] = mapped_column(ForeignKey("account.id"))
    credential_id: Mapped[UUID]
    kind: Mapped[str]


class Route(StrEnum):
    """How a message goes to its owner."""

    SMS = "sms"
    LETTER = "letter"
    MAIL = "mail"


class MessageState(StrEnum):
    """Life of a message; the last eight are final."""

    HELD = "held"  # of a campaign: waits for its turn, its hours, its next try, or a resume (R24)
    QUEUED = "queued"  # waits for a dispatcher, or for its next try
    SENDING = "sending"  # a dispatcher holds it; the provider may have been asked already
    UNCERTAIN = "uncertain"  # asked, and nobody knows with what result (D19)
    ACCEPTED = "accepted"  # the provider has it; final unless a receipt says more
    DELIVERED = "delivered"
    UNDELIVERED = "undelivered"
    REFUSED = "refused"  # the provider will not take it
    EXPIRED = "expired"  # its life ended before a provider took it
    REPLACED = "replaced"  # a newer one went in its place (D03)
    CANCELLED = "cancelled"  # taken back: by the API client that had it sent, or an admin
    LOST = "lost"  # uncertain to the end


UNDER_WAY = (MessageState.HELD, MessageState.QUEUED, MessageState.SENDING, MessageState.UNCERTAIN)


class Priority(IntEnum):
    """Which messages leave first; the lower before the higher."""

    CODE = 0
    PASSWORD = 1
    NOTICE = 2
    CAMPAIGN = 3


class Message(Base):
    """A message to a person, in the outbox or gone (design idea 11).

    `content_sealed` holds what the template is filled with, `text_sealed` the text from the first
    claim on, so that every try says the same; both are empty once nothing needs them.
    `template_version` says which version of the template that text was made from.
    """

    __tablename__ = "message"
    __table_args__ = (
        Index("ix_message_due", "state", "next_at"),
        Index("ix_message_urgent", "route", "state", "priority", "next_at"),
        Index(
            "ix_message_ended",
            "ended_at",
            sqlite_where=text("ended_at IS NOT NULL"),
            postgresql_where=text("ended_at IS NOT NULL"),
        ),
        Index("ix_message_account", "account_id", "created_at"),
        Index("ix_message_destination", "destination_index", "created_at"),
        Index("ix_message_created", "created_at"),
        Index(
            "ix_message_of_no_campaign",
            "created_at",
            sqlite_where=text("campaign_id IS NULL"),
            postgresql_where=text("campaign_id IS NULL"),
        ),
        Index("ix_message_provider", "provider", "provider_id"),
        Index(
            "ix_message_run",
            "run_id",
            sqlite_where=text("run_id IS NOT NULL"),
            postgresql_where=text("run_id IS NOT NULL"),
        ),
        Index(
            "ix_message_campaign",
            "campaign_id",
            "state",
            "zone",
            sqlite_where=text("campaign_id IS NOT NULL"),
            postgresql_where=text("campaign_id IS NOT NULL"),
        ),
        Index(  # a contact gets one message of a campaign
            "ix_message_campaign_contact",
            "campaign_id",
            "destination_index",
            unique=True,
            sqlite_where=text("campaign_id IS NOT NULL"),
            postgresql_where=text("campaign_id IS NOT NULL"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    route: Mapped[str]
    template: Mapped[str]
    template_version: Mapped[str | None]
    sender: Mapped[str | None]  # in the place of the template's
    subject: Mapped[str | None]  # of a mail, in the place of the template's
    priority: Mapped[int]
    account_id: Mapped[UUID | None] = mapped_column(ForeignKey("account.id"))
    client: Mapped[str | None]  # whose key had it sent, if it is not the store's own
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
    run_id: Mapped[UUID | None] = mapped_column(ForeignKey("letter_run.id"))
    campaign_id: Mapped[UUID | None] = mapped_column(ForeignKey("campaign.id"))
    zone: Mapped[str | None]  # of a campaign's: whose hours; none once it was taken back
    ended_at: Mapped[datetime | None]


class CampaignState(StrEnum):
    """Life of a campaign; the last two are final."""

    LOADING = "loading"  # its file is being imported
    DRAFT = "draft"
    RUNNING = "running"
    PAUSED = "paused"
    CANCELLED = "cancelled"  # `ended_at` once nothing of it is under way
    ENDED = "ended"


class Campaign(Base):
    """The same message to many (R24). Its recipients are messages, each held until its turn.

    `text` is what it says if it is of no template; it names nobody.
    """

    __tablename__ = "campaign"
    __table_args__ = (UniqueConstraint("client", "name"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    client: Mapped[str]  # whose key made it; empty: an admin's
    name: Mapped[str]
    route: Mapped[str]
    template: Mapped[str]
    text: Mapped[str | None]
    sender: Mapped[str | None]
    subject: Mapped[str | None]
    state: Mapped[str]
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]


class LetterRun(Base):
    """Letters that went to the printer together; their texts go when the run is confirmed."""

    __tablename__ = "letter_run"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    created_at: Mapped[datetime]
    prepared_at: Mapped[datetime | None]  # its folder is whole
    confirmed_at: Mapped[datetime | None]


class AgentTask(Base):
    """An agent's request (R09, NIMS), done once however often it comes."""

    __tablename__ = "agent_task"

    id: Mapped[str] = mapped_column(primary_key=True)  # the agents' system's own
    request_mac: Mapped[bytes]
    at: Mapped[datetime]
    answer: Mapped[str]


class SendAttempt(Base):
    """One time that a provider was asked; committed before it is."""

    __tablename__ = "send_attempt"
    __table_args__ = (
        Index("ix_send_attempt_message", "message_id"),
        Index("ix_send_attempt_provider", "provider", "result", "ended_at"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    message_id: Mapped[UUID] = mapped_column(ForeignKey("message.id"))
    claim: Mapped[int]
    provider: Mapped[str]
    started_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    result: Mapped[str | None]
    code: Mapped[str | None]


class DrainedProvider(Base):
    """A provider that an admin took out of service, at every gateway."""

    __tablename__ = "provider"

    name: Mapped[str] = mapped_column(primary_key=True)
    drained_at: Mapped[datetime]


class SentPart(Base):
    """One SMS of a message that a provider took, by the name that its receipts have for it."""

    __tablename__ = "sent_part"
    __table_args__ = (
        Index("ix_sent_part_attempt", "attempt_id"),
        Index("ix_sent_part_at", "at"),
    )

    provider: Mapped[str] = mapped_column(primary_key=True)
    provider_id: Mapped[str] = mapped_column(primary_key=True)
    attempt_id: Mapped[UUID | None] = mapped_column(ForeignKey("send_attempt.id"))
    state: Mapped[str | None]  # None: no receipt yet
    at: Mapped[datetime]


class OptOut(Base):
    """A contact that wants no campaign (R24): its blind index alone, of a number or of an address.

    It outlives its person's data on purpose (D16): forgotten with them, the next campaign would
    write to somebody who had said no. Nobody is found by it who does not already know the contact.
    """

    __tablename__ = "opt_out"

    contact_index: Mapped[bytes] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    source: Mapped[str]


class InboundMessage(Base):
    """A word that somebody sent to a number of ours; never what else the message said.

    `provider_id` is empty where the provider has no name for it (SMPP).
    """

    __tablename__ = "inbound_message"
    __table_args__ = (
        UniqueConstraint("provider", "provider_id"),
        Index("ix_inbound_message_contact", "contact_index", "at"),
        Index("ix_inbound_message_at", "at"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    provider: Mapped[str]
    provider_id: Mapped[str | None]
    contact_index: Mapped[bytes]
    called: Mapped[str]
    keyword: Mapped[str]
    at: Mapped[datetime]
    answered: Mapped[bool]


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
    """A counter whose rise ends every session of its scope at once (D15).

    Scopes are "service", "channel:voice", "caisse:92"…; those without a row count as 0.
    """

    __tablename__ = "epoch"

    scope: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[int]


class LoginSession(Base):
    """An open session: the only way to a dossier (design idea 3). Its token is kept as a hash."""

    __tablename__ = "session"
    __table_args__ = (Index("ix_session_expires", "expires_at"),)

    token_hash: Mapped[bytes] = mapped_column(primary_key=True)
    account_id: Mapped[UUID] = mapped_column(ForeignKey("account.id"))
    person_id: Mapped[UUID | None] = mapped_column(ForeignKey("person.id"))  # None: D11
    change_only: Mapped[bool] = mapped_column(default=False)  # R09: opens the change of password
    channel: Mapped[str]
    call_id: Mapped[str | None] = mapped_column(index=True)
    client: Mapped[str | None]  # of the HTTP API: nobody else can use the session
    account_epoch: Mapped[int]
    service_epoch: Mapped[int]  # the sum of its scopes' epochs
    opened_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]


class ApiKey(Base):
    """A key of the HTTP API: whose, what it may do, until when; the key itself as a hash."""

    __tablename__ = "api_key"

    id: Mapped[str] = mapped_column(primary_key=True)
    client: Mapped[str]  # several keys of one client overlap while it changes them
    key_hash: Mapped[bytes]
    scopes: Mapped[list[Any]]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]


class IdempotentRequest(Base):
    """A request of the HTTP API that is answered once: repeated, it gets the same answer."""

    __tablename__ = "idempotent_request"
    __table_args__ = (Index("ix_idempotent_request_at", "at"),)

    client: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    request_mac: Mapped[bytes]
    at: Mapped[datetime]
    status: Mapped[int | None]  # None: under way
    answer_sealed: Mapped[bytes | None]


class DossierSection(Base):
    """A section of what the information system told of a dossier, as it was at an instant (R38).

    `content_sealed` is JSON of that section's model (`dossier_data.py`).
    """

    __tablename__ = "dossier_section"
    __table_args__ = (Index("ix_dossier_section_as_of", "as_of"),)

    account_id: Mapped[UUID] = mapped_column(ForeignKey("account.id"), primary_key=True)
    section: Mapped[str] = mapped_column(primary_key=True)
    as_of: Mapped[datetime]
    content_sealed: Mapped[bytes]


class ProcessingDelay(Base):
    """How far a caisse has got with what it received: JSON of `dossier_data.Delay` (R38)."""

    __tablename__ = "processing_delay"

    caisse: Mapped[str] = mapped_column(primary_key=True)
    as_of: Mapped[datetime]
    delays: Mapped[str]


class Incident(Base):
    """The switch of D15: while one of its scope is not lifted, nobody logs in there."""

    __tablename__ = "incident"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    scope: Mapped[str]  # "service", "channel:voice", "caisse:92"
    raised_at: Mapped[datetime]
    lifted_at: Mapped[datetime | None]


class VoidedEntry(Base):
    """What was done about one audited change of a half-open window (D15)."""

    __tablename__ = "voided_entry"

    audit_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    result: Mapped[str]
    at: Mapped[datetime]


class AuditEntry(Base):
    """Something changed or read; rows are only ever added (D15, D16).

    `before_sealed` is what a change replaced, so that it can be compensated.
    """

    __tablename__ = "audit"
    __table_args__ = (Index("ix_audit_at", "at"), Index("ix_audit_account", "account_id", "at"))

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    event: Mapped[str]
    channel: Mapped[str]
    account_id: Mapped[UUID | None]
    call_id: Mapped[str | None]
    person_id: Mapped[UUID | None]  # who did it, if it was in a person's session
    subject_id: Mapped[UUID | None]  # the row that was changed
    actor: Mapped[str | None]  # the API client or the agent's task
    before_sealed: Mapped[bytes | None]


class AuditBatch(Base):
    """Audit rows sealed together; its hash stands on that of the batch before (D16).

    Of those whose rows were deleted in time, the newest stays, signed, as `checkpoint`.
    """

    __tablename__ = "audit_batch"

    id: Mapped[int] = mapped_column(primary_key=True)
    rows: Mapped[int]
    sealed_at: Mapped[datetime]
    mac: Mapped[bytes]
    checkpoint: Mapped[bytes | None]


class AuditLink(Base):
    """The keyed hash of one audit row, and the batch that it was sealed in."""

    __tablename__ = "audit_link"
    __table_args__ = (Index("ix_audit_link_batch", "batch_id"),)

    audit_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    batch_id: Mapped[int] = mapped_column(ForeignKey("audit_batch.id"))
    mac: Mapped[bytes]


class KeyCheck(Base):
    """The one row that opens with this database's own key ring alone (D13)."""

    __tablename__ = "key_check"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    ring_sealed: Mapped[bytes]


class CallRecord(Base):
    """One telephone call, with the number keyed as a pseudonym (D16) and no caller id."""

    __tablename__ = "call_record"
    __table_args__ = (Index("ix_call_record_started", "started_at"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    started_at: Mapped[datetime]
    ended_at: Mapped[datetime]
    line: Mapped[str]
    caisse: Mapped[str | None]
    number_pseudonym: Mapped[str | None]
    steps: Mapped[list[Any]]  # [step, exit, seconds] each
    outcome: Mapped[str]
