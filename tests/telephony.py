"""What tests of calls are written with: a script with short delays, dossiers, a voice server."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

from sqlalchemy import select

from ivr.script import Delays, Script
from ivr.script_files import load_script
from ivr.server import VoiceServer
from shared.models import CallRecord
from shared.rules import DEFAULT_FILE, Rules, load_rules
from shared.secret import Secret
from shared.store import Store
from sms.provider import Outgoing
from tests.store import CHEAP, NUMBER, PASSWORD, add_account, pay

WRONG = "16042738"
OTHER_WRONG = "58201947"
ANOTHER_WRONG = "40718352"


def script_with_silence(seconds: float = 60.0) -> Script:
    """Give the script as it ships, where a silence of that length is an answer.

    By default longer than any stall of a busy machine.
    """
    script = load_script()
    return replace(script, delays=Delays(first_key=seconds, between_keys=seconds, tries=3))


def an_sms(text: str) -> Outgoing:
    """Give an SMS that is about to leave."""
    minute, now = timedelta(minutes=1), datetime.now(UTC)
    return Outgoing(uuid4(), "+33612345678", Secret(text), "Caf", uuid4(), minute, now)


def rules_of_the_cut_over(folder: Path) -> Rules:
    """Give the rules with the lines of the cut-over, which they ship as an example (D10, R19)."""
    path = folder / "rules.toml"
    path.write_text(re.sub(r"(?m)^#(?=\S)", "", DEFAULT_FILE.read_text("utf-8")), "utf-8")
    return load_rules(path).model_copy(update={"argon2": CHEAP})


def add_dossier(store: Store, number: str = NUMBER, password: str = PASSWORD) -> None:
    """Add an account with a payment of 1 234,50 € on 5 November 2021."""
    pay(store, add_account(store, number, password), ("2021-11-05", 123_450))


PAYMENT_HEARD = [
    "dernier-paiement",
    "mille",
    "nombre-2",
    "cent",
    "nombre-34",
    "euros",
    "et",
    "nombre-50",
    "centimes",
    "le",
    "nombre-5",
    "mois-11",
    "nombre-2",
    "mille",
    "nombre-21",
]

MENU = [
    *["choix-dernier-paiement", "tapez", "chiffre-1"],
    *["choix-paiements-droits", "tapez", "chiffre-2"],
    *["choix-demarches", "tapez", "chiffre-3"],
    *["choix-echanges", "tapez", "chiffre-4", "menu-touches"],
]


@contextmanager
def running(store: Store, script: Script) -> Iterator[VoiceServer]:
    """Run a voice server."""
    server = VoiceServer(store, script)
    server.start()
    try:
        yield server
    finally:
        server.stop(0)


def records(store: Store) -> list[CallRecord]:
    """Give the call records, oldest first."""
    with store.database.read() as transaction:
        return list(transaction.scalars(select(CallRecord).order_by(CallRecord.started_at)))
