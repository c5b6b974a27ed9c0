"""Databases of earlier versions: the schema of any revision, with rows in every table of it.

What is here is written as the versions of that time wrote it. A change of what seals, hashes or
blind indexes are made of must not be followed here: the rows of those who upgrade do not follow.
"""

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa

from shared import schema
from shared.database import Database
from shared.hashing import Hasher
from shared.keyring import KeyRing
from shared.secret import Secret
from tests.store import CHEAP, FakeClock

NOW = FakeClock()()
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
TODAY = NOW.date()

CAISSE, NUMBER, MOVED_NUMBER = "92", "0000354", "0000412"
PASSWORD, PENDING, CODE = "73920461", "58203917", "4071"
WEB_PASSWORD, CHOSEN = "Soleil2021abc", "Nuages2022xyz"
NIR, HUGO_NIR, PROVISIONAL = "2951099126111", "1900475112001", "P40718263"
MOBILE, FORMER_MOBILE, LANDLINE = "+33612345678", "+33698765432", "+33147258369"
ADDRESS = {"line1": "3 rue des Lilas", "line2": None, "postcode": "92000", "city": "Nanterre"}
FORMER_ADDRESS = {**ADDRESS, "line1": "8 allée Corot"}
CENTS = 48_171
CLIENT, API_SECRET = "site-web", "q" * 43
ENTERED = "402913"  # the verification code
VERSION = "1a2b3c4d"  # of a template
TOKEN, CLIENT_TOKEN, STEPS_TOKEN, OLD_TOKEN = b"voice", b"client", b"steps", b"over"

OURS, MOVED = UUID(int=0xA1), UUID(int=0xA2)
CLAIRE, HUGO, INES = UUID(int=0xB1), UUID(int=0xB2), UUID(int=0xB3)
CLAIRE_ON_THE_WEB, INES_ON_THE_WEB = UUID(int=0xC1), UUID(int=0xC2)
RIGHT, SENT, OLD, OLD_CODE, OF_CLAIRE, OF_INES = (UUID(int=0xD0 + n) for n in range(6))
QUEUED, SENDING, DELIVERED, LETTER, CANCELLED, REFUSED, HELD = (
    UUID(int=0xE0 + n) for n in range(7)
)
CODE_ID, USED_CODE_ID, VAIN_CODE_ID, CLIENTS_CODE_ID = (UUID(int=0xF1 + n) for n in range(4))
PURPOSE = "rendez-vous"
RUN, ATTEMPT, INCIDENT, CAMPAIGN, OLD_CAMPAIGN = (UUID(int=0x11 + n) for n in range(5))
INBOUND = "SM" + 32 * "5"
LATER = "later"  # than any revision
CALL, KEY_ID, TASK = "92-1635845400.17", "1f0c6f6f1f2c1142", "nims-2021-118"

TYPES: dict[type, sa.types.TypeEngine[Any]] = {
    UUID: sa.Uuid(),
    datetime: sa.DateTime(timezone=True),
    date: sa.Date(),
    bytes: sa.LargeBinary(),
    bool: sa.Boolean(),
    int: sa.Integer(),
    str: sa.String(),
    list: sa.JSON(),
}


class Row(NamedTuple):
    """A row that can stand in databases from the revision `since` on.

    It has no values for what the database numbers itself. Where a column is younger than the row,
    its value is what a migration must put there; one without a value stays, or becomes, NULL.
    """

    since: str
    table: str
    values: Mapping[str, Any]
    until: str = LATER  # the revision without its table


def fill(database: Database, keys: KeyRing, revision: str) -> list[Row]:
    """Make an empty database one of an earlier version, with these rows and in every column.

    AssertionError if a table or a column of that revision is in use nowhere: give it rows.
    """
    with database.begin() as connection:
        schema.upgrade(connection, lambda _: None, revision)
        connection.execute(sa.text("DELETE FROM epoch"))  # the one that the migration made
        columns = _columns(connection)
        rows = [row for row in _rows(keys) if row.since <= revision < row.until]
        for row in rows:
            _insert(connection, columns[row.table], row)
        unused = {
            f"{table}.{column}"
            for table, names in columns.items()
            for column in names
            if _is_unused(connection, table, column)
        }
    assert not unused, f"no row of tests/earlier.py at {revision} has: {sorted(unused)}"
    return rows


def _columns(connection: sa.Connection) -> dict[str, set[str]]:
    inspector = sa.inspect(connection)
    tables = set(inspector.get_table_names()) - {"alembic_version"}
    return {table: {column["name"] for column in inspector.get_columns(table)} for table in tables}


def _insert(connection: sa.Connection, columns: set[str], row: Row) -> None:
    values = {name: value for name, value in row.values.items() if name in columns}
    typed = [sa.column(name, TYPES[type(value)]) for name, value in values.items()]
    connection.execute(sa.table(row.table, *typed).insert().values(values))


def _is_unused(connection: sa.Connection, table: str, column: str) -> bool:
    found: sa.ColumnClause[Any] = sa.column(column)
    query = sa.select(found).select_from(sa.table(table)).where(found.is_not(None)).limit(1)
    return connection.execute(query).first() is None


def _rows(keys: KeyRing) -> list[Row]:
    """Give all rows, those before that others refer to."""
    return [
        *_accounts(),
        *_told(keys),
        *_people(keys),
        *_credentials(keys),
        *_counts(keys),
        *_sessions(keys),
        *_messages(keys),
        *_codes(keys),
        *_requests(keys),
        *_incidents(),
        *_audit(keys),
    ]


def _accounts() -> list[Row]:
    ours = {"id": OURS, "caisse": CAISSE, "number": NUMBER, "situation": "affilie"}
    moved = {"id": MOVED, "caisse": "13", "number": MOVED_NUMBER, "situation": "primo-demandeur"}
    ended = {"closed_at": NOW - 40 * DAY, "moved_to": OURS}
    return [
        Row("0001", "account", {**ours, "epoch": 1, "created_at": NOW - 900 * DAY}),
        Row("0004", "account", {**moved, "epoch": 2, "created_at": NOW - 950 * DAY, **ended}),
        *(
            Row("0001", "payment", {"account_id": OURS, "paid_on": paid_on, "cents": cents}, "0018")
            for paid_on, cents in ((date(2021, 10, 5), 900), (date(2021, 11, 2), CENTS))
        ),
    ]


def _told(keys: KeyRing) -> list[Row]:
    """Give what the information system told of dossiers and of a caisse's delays."""
    payment = {"paid_on": "2021-11-02", "cents": CENTS, "withheld": [], "payee": "vous"}
    content = json.dumps([payment]).encode()
    section = {
        "account_id": OURS,
        "section": "payments",
        "as_of": NOW - HOUR,
        "content_sealed": keys.seal(content, "dossier_section", str(OURS), "payments"),
    }
    delay = {"category": "rsa-aah", "first": "2021-10-01", "last": "2021-10-08"}
    delays = {"caisse": CAISSE, "as_of": NOW - DAY, "delays": json.dumps([delay])}
    return [Row("0018", "dossier_section", section), Row("0018", "processing_delay", delays)]


def _people(keys: KeyRing) -> list[Row]:
    def sealed(person: UUID, **contacts: str) -> dict[str, bytes]:
        return {
            f"{name}_sealed": keys.seal(text.encode(), "person", str(person), name)
            for name, text in contacts.items()
        }

    def identity(surname: str, given_names: str, birth_date: str) -> str:
        names = {"surname": surname, "given_names": given_names, "birth_date": birth_date}
        return json.dumps(names, ensure_ascii=False)

    claire = {
        "id": CLAIRE,
        "account_id": OURS,
        "role": "allocataire",
        **sealed(
            CLAIRE,
            nir=NIR,
            identity=identity("Lefèvre", "Claire", "1995-10-07"),
            mobile=MOBILE,
            landline=LANDLINE,
            email="claire@exemple.fr",
            address=json.dumps(ADDRESS),
        ),
        "nir_index": keys.index("nir", NIR),
        "identity_index": keys.index("identity", "lefevre|claire|1995-10-07"),
        "mobile_index": keys.index("phone", MOBILE),
        "mobile_since": TODAY - 400 * DAY,
        "landline_index": keys.index("phone", LANDLINE),
        "address_since": TODAY - 90 * DAY,
    }
    hugo = {
        "id": HUGO,
        "account_id": OURS,
        "role": "conjoint",
        **sealed(HUGO, nir=HUGO_NIR, mobile_before=FORMER_MOBILE),
        "nir_index": keys.index("nir", HUGO_NIR),
    }
    ines = {
        "id": INES,
        "account_id": OURS,
        "role": "conjoint-allocataire",
        **sealed(
            INES,
            identity=identity("Lefèvre", "Inès", "1998-02-03"),
            address_before=json.dumps(FORMER_ADDRESS),
        ),
        "identity_index": keys.index("identity", "lefevre|ines|1998-02-03"),
        "email_since": TODAY - DAY,
        "delegated_at": NOW - 5 * DAY,
    }
    claire_on_the_web = {"id": CLAIRE_ON_THE_WEB, "nir_index": keys.index("nir", NIR)}
    ines_on_the_web = {
        "id": INES_ON_THE_WEB,
        "person_id": INES,
        "provisional_index": keys.index("provisional", PROVISIONAL),
        "provisional_sealed": keys.seal(
            PROVISIONAL.encode(), "web-account", str(INES_ON_THE_WEB), "provisional"
        ),
    }
    ended = {"id": UUID(int=0xC3), "person_id": INES, "ended_at": NOW - 8 * DAY}
    return [
        Row("0001", "person", claire),
        Row("0002", "person", hugo),
        Row("0004", "person", ines),
        *(
            Row("0004", "web_account", {**account, "created_at": NOW - 20 * DAY})
            for account in (claire_on_the_web, ines_on_the_web, ended)
        ),
    ]


def _credentials(keys: KeyRing) -> list[Row]:
    hasher = Hasher(CHEAP)
    first = hasher.hash(Secret(PASSWORD))

    def row(since: str, owner: UUID, own_id: UUID, kind: str, hashed: str, **others: Any) -> Row:
        values = {
            "id": own_id,
            "account_id" if owner == OURS else "web_account_id": owner,
            "kind": kind,
            "hash_sealed": keys.seal(hashed.encode(), "credential", str(owner), str(own_id), kind),
            "version": 1,
            "state": "active",
            "provisional": False,
        }
        return Row(since, "credential", {**values, **others})

    on_the_web = {"origin": "owner", "created_at": NOW - 15 * DAY}
    web_hash = hasher.hash(Secret(WEB_PASSWORD))
    return [
        row("0001", OURS, OLD, "password", hasher.hash(Secret("16042738")), state="ended",
            origin="given", created_at=NOW - 800 * DAY, ended_at=NOW - 60 * DAY),
        row("0001", OURS, RIGHT, "password", first, version=2, origin="given",
            created_at=NOW - 60 * DAY, expires_at=NOW + 600 * DAY),
        row("0001", OURS, OLD_CODE, "code", hasher.hash(Secret(CODE)), origin="given",
            created_at=NOW - 900 * DAY),
        row("0002", OURS, SENT, "password", hasher.hash_like(Secret(PENDING), first),
            state="pending", route="sms", origin="forgotten", created_at=NOW - MINUTE,
            expires_at=NOW + 730 * DAY),
        row("0004", CLAIRE_ON_THE_WEB, OF_CLAIRE, "web-password", web_hash, **on_the_web,
            first_used_at=NOW - DAY),
        row("0004", INES_ON_THE_WEB, OF_INES, "web-password", web_hash, **on_the_web),
        row("0004", CLAIRE_ON_THE_WEB, UUID(int=0xD9), "web-password", web_hash, **on_the_web,
            state="ended", ended_at=NOW - 15 * DAY, ended_by="replaced"),
        *(
            Row("0004", "change", {"account_id": OURS, "credential_id": RIGHT, "kind": "password",
                                   "event": event, "at": at})
            for event, at in (("issued", NOW - 60 * DAY), ("first-used", NOW - 59 * DAY))
        ),
    ]  # fmt: skip


def _counts(keys: KeyRing) -> list[Row]:
    account, caller = keys.index("account", f"{CAISSE}/{NUMBER}"), keys.index("caller", MOBILE)
    hit = {"attempt_id": UUID(int=0x99), "key": account, "subject": caller, "at": NOW - HOUR}
    hour = NOW.replace(minute=0)
    call = {
        "id": CALL,
        "started_at": NOW - HOUR,
        "ended_at": NOW - 50 * MINUTE,
        "line": "3230",
        "caisse": CAISSE,
        "number_pseudonym": keys.pseudonym(f"{CAISSE}/{NUMBER}"),
        "steps": [["menu", "1", 2.5], ["payment", "goodbye", 9.0]],
        "outcome": "authenticated",
    }
    return [
        *(
            Row("0001", "throttle_hit", {**hit, "bucket": bucket, "counted": True})
            for bucket in ("account", "account-row")
        ),
        Row("0001", "channel_hour", {"channel": "voice", "hour": hour, "attempts": 31,
                                     "failures": 4, "alarmed": False}),
        Row("0001", "epoch", {"scope": "service", "value": 3}),
        Row("0008", "epoch", {"scope": "caisse:13", "value": 1}),
        Row("0001", "call_record", call),
    ]  # fmt: skip


def _sessions(keys: KeyRing) -> list[Row]:
    def row(since: str, token: bytes, channel: str, **others: Any) -> Row:
        values = {
            "token_hash": hashlib.sha256(token).digest(),
            "account_id": OURS,
            "channel": channel,
            "account_epoch": 1,
            "service_epoch": 3,
            "change_only": False,
            "opened_at": NOW - MINUTE,
            "expires_at": NOW + 10 * MINUTE,
        }
        return Row(since, "session", {**values, **others})

    steps = hashlib.sha256(STEPS_TOKEN).digest()
    chosen = Hasher(CHEAP).hash(Secret(CHOSEN)).encode()
    return [
        row("0001", TOKEN, "voice", call_id=CALL),
        row("0001", OLD_TOKEN, "voice", ended_at=NOW - 30 * DAY, expires_at=NOW - 30 * DAY),
        row("0004", STEPS_TOKEN, "web", person_id=HUGO, change_only=True),
        row("0007", CLIENT_TOKEN, "web", person_id=CLAIRE, client=CLIENT),
        Row(
            "0005",
            "continuation",
            {
                "token_hash": steps,
                "purpose": "bascule",
                "terms_accepted_at": NOW - MINUTE,
                "hash_sealed": keys.seal(chosen, "continuation", steps.hex(), "web-password"),
                "contact_confirmed_at": NOW,
            },
        ),
    ]


def _messages(keys: KeyRing) -> list[Row]:
    def row(since: str, message: UUID, state: str, **others: Any) -> Row:
        sealed = {
            name: keys.seal(text, "message", str(message), name.removesuffix("_sealed"))
            for name, text in others.items()
            if name.endswith("_sealed")
        }
        values = {
            "id": message,
            "account_id": OURS,
            "route": "sms",
            "template": "password",
            "priority": 1,
            "known_caller": True,
            "state": state,
            "claims": 0,
            "failures": 0,
            "repeated": False,
            "destination_index": keys.index("phone", MOBILE),
            "created_at": NOW - MINUTE,
            "expires_at": NOW + DAY,
            "next_at": NOW - MINUTE,
        }
        given = {**values, **others, **sealed}
        return Row(since, "message", {name: one for name, one in given.items() if one is not None})

    content = json.dumps({"password": PENDING}).encode()
    attempt = {
        "id": ATTEMPT,
        "message_id": DELIVERED,
        "claim": 1,
        "provider": "twilio",
        "started_at": NOW - 2 * HOUR,
        "ended_at": NOW - 2 * HOUR,
        "result": "accepted",
        "code": "201",
    }
    campaign = {"route": "mail", "template": "campaign", "created_at": NOW - DAY,
                "started_at": NOW - HOUR}  # fmt: skip
    run = {"id": RUN, "created_at": NOW - DAY, "prepared_at": NOW - DAY, "confirmed_at": NOW - HOUR}
    return [
        Row("0006", "letter_run", run),
        row("0002", QUEUED, "queued", destination_sealed=MOBILE.encode(), content_sealed=content),
        row("0002", SENDING, "sending", destination_sealed=MOBILE.encode(), text_sealed=b"Bonjour",
            claims=1, next_at=NOW + MINUTE, provider="twilio"),
        row("0002", DELIVERED, "delivered", template="code", priority=0, claims=1,
            provider="twilio", provider_id="SM0001", created_at=NOW - 2 * HOUR,
            ended_at=NOW - HOUR),
        row("0006", LETTER, "accepted", route="letter", run_id=RUN, ended_at=NOW - HOUR),
        row("0012", CANCELLED, "cancelled", template="notice.rendez-vous", priority=2,
            account_id=None, known_caller=False, destination_index=None, client=CLIENT,
            ended_at=NOW),
        row("0016", REFUSED, "refused", template_version=VERSION, ended_at=NOW),
        Row("0002", "send_attempt", attempt),
        Row("0013", "provider", {"name": "smpp", "drained_at": NOW - HOUR}),
        Row("0010", "sent_part", {"provider": "smpp", "provider_id": "1f", "attempt_id": ATTEMPT,
                                  "state": "delivered", "at": NOW - HOUR}),
        Row("0015", "campaign", {**campaign, "id": CAMPAIGN, "client": CLIENT, "name": "rentree",
                                 "text": "Bonjour", "sender": "Caf", "subject": "Du nouveau",
                                 "state": "paused"}),
        Row("0015", "campaign", {**campaign, "id": OLD_CAMPAIGN, "client": "", "name": "ete",
                                 "state": "ended", "ended_at": NOW - MINUTE}),
        row("0015", HELD, "held", route="mail", template="campaign", priority=3, account_id=None,
            known_caller=False, destination_index=keys.index("email", "claire@exemple.fr"),
            destination_sealed=b"claire@exemple.fr", text_sealed=b"Bonjour", sender="Caf",
            subject="Du nouveau", campaign_id=CAMPAIGN, zone="Indian/Reunion"),
        Row("0014", "opt_out", {"contact_index": keys.index("phone", MOBILE),
                                "at": NOW - HOUR, "source": "sms"}),
        Row("0014", "inbound_message", {"provider": "twilio", "provider_id": INBOUND,
                                        "contact_index": keys.index("phone", MOBILE),
                                        "called": "36180", "keyword": "stop", "at": NOW - HOUR,
                                        "answered": True}),
    ]  # fmt: skip


def _codes(keys: KeyRing) -> list[Row]:
    values = {
        "purpose": "phone-login",
        "contact_index": keys.index("phone", MOBILE),
        "asked_by": keys.index("asker", f"{NIR}/{MOBILE}"),
        "created_at": NOW - MINUTE,
        "expires_at": NOW + 9 * MINUTE,
    }
    return [
        Row(
            since,
            "verification_code",
            {
                **values,
                **others,
                "id": code_id,
                "code_mac": keys.index("verification-code", f"{code_id}/{ENTERED}"),
            },
        )
        for since, code_id, others in (
            ("0005", CODE_ID, {"person_id": CLAIRE, "sent": True}),
            ("0005", USED_CODE_ID, {"person_id": CLAIRE, "sent": True, "used_at": NOW}),
            ("0005", VAIN_CODE_ID, {"sent": False}),
            ("0016", CLIENTS_CODE_ID, {"sent": True, "purpose": f"{CLIENT}:{PURPOSE}"}),
        )
    ]


def _requests(keys: KeyRing) -> list[Row]:
    task = {"id": TASK, "kind": "password", "caisse": CAISSE, "number": NUMBER, "reason": "perdu"}
    mac = keys.index("agent-task", json.dumps(task, sort_keys=True))
    answer = keys.seal(b'{"ok": true}', "idempotent_request", CLIENT, "key-1")
    api_key = {
        "client": CLIENT,
        "key_hash": hashlib.sha256(API_SECRET.encode()).digest(),
        "scopes": ["logins", "sessions"],
        "created_at": NOW - 30 * DAY,
        "expires_at": NOW + 300 * DAY,
    }
    request = {"client": CLIENT, "key": "key-1", "at": NOW - HOUR, "status": 202}
    checked = keys.seal(keys.index("key-check", ""), "key_check", "1", "ring")
    return [
        Row("0006", "agent_task", {"id": TASK, "request_mac": mac, "at": NOW - DAY,
                                   "answer": "done"}),
        Row("0007", "api_key", {"id": KEY_ID, **api_key}),
        Row("0007", "api_key", {"id": KEY_ID[::-1], **api_key, "revoked_at": NOW - DAY}),
        Row("0007", "idempotent_request",
            {**request, "request_mac": keys.index("idempotent-request", "POST /v1/reset"),
             "answer_sealed": answer}),
        Row("0009", "key_check", {"id": 1, "ring_sealed": checked}),
    ]  # fmt: skip


def _incidents() -> list[Row]:
    incident = {"scope": "caisse:13", "raised_at": NOW - 9 * DAY, "lifted_at": NOW - 8 * DAY}
    return [
        Row("0008", "incident", {"id": INCIDENT, **incident}),
        Row("0008", "voided_entry", {"audit_id": 1, "result": "by-hand", "at": NOW - 7 * DAY}),
    ]


def _audit(keys: KeyRing) -> list[Row]:
    """Give audit rows numbered from 1, and the chain of their seals: as `audit_seal` made it."""
    at = NOW - 2 * HOUR
    image = json.dumps({"delegated_at": None}).encode()
    entries: list[tuple[str, dict[str, Any]]] = [
        ("0001", {"event": "login", "channel": "voice", "account_id": OURS, "call_id": CALL}),
        ("0001", {"event": "login-refused", "channel": "voice"}),
        ("0008", {
            "event": "delegation-given",
            "channel": "web",
            "account_id": OURS,
            "person_id": CLAIRE,
            "subject_id": INES,
            "actor": CLIENT,
            "before_sealed": keys.seal(
                image, "audit", str(INES), "delegation-given", at.isoformat()
            ),
        }),
    ]  # fmt: skip
    macs = [_row_mac(keys, number, at, entry) for number, (_, entry) in enumerate(entries, 1)]
    purged = bytes(range(32))  # the hash of a batch whose rows were purged
    first = {"id": 1, "rows": 4, "sealed_at": NOW - 400 * DAY, "mac": purged}
    chain = [purged.hex(), 2, len(macs), (NOW - HOUR).isoformat()]
    second_mac = keys.index("audit-batch", json.dumps([*chain, *(mac.hex() for mac in macs)]))
    signed = [1, 4, (NOW - 400 * DAY).isoformat(), purged.hex()]
    checkpoint = keys.index("audit-checkpoint", json.dumps(signed))
    second = {"id": 2, "rows": len(macs), "sealed_at": NOW - HOUR, "mac": second_mac}
    return [
        *(Row(since, "audit", {"at": at, **entry}) for since, entry in entries),
        Row("0008", "audit_batch", {**first, "checkpoint": checkpoint}),
        Row("0008", "audit_batch", second),
        *(
            Row("0008", "audit_link", {"audit_id": number, "batch_id": 2, "mac": mac})
            for number, mac in enumerate(macs, 1)
        ),
    ]


def _row_mac(keys: KeyRing, number: int, at: datetime, entry: Mapping[str, Any]) -> bytes:
    ids = ("account_id", "call_id", "person_id", "subject_id", "actor")
    texts = [None if entry.get(name) is None else str(entry[name]) for name in ids]
    moment = at.astimezone(UTC).isoformat()
    row = [number, moment, entry["event"], entry["channel"], *texts, "before_sealed" in entry]
    return keys.index("audit-row", json.dumps(row))
