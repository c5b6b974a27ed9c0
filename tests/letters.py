"""What tests of letters are written with: a printer and its key, people with addresses."""

import json
import subprocess
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from sqlalchemy import select

from shared.letters.runs import Office
from shared.letters.spool import Printer, Spool
from shared.letters.texts import load_texts
from shared.letters.writing import Words
from shared.models import Message, Person
from shared.origin import Origin
from shared.people import Address, PersonData, seal_person
from shared.resets import request_password
from shared.rules import Channel
from shared.store import Store
from tests.store import CAISSE, NUMBER, add_account

HOME = Address("3 rue des Œillets", "bâtiment B", "92000", "Nanterre")
FORMER_HOME = Address("8 rue du Port", None, "29200", "Brest")
CLAIRE = PersonData(surname="Lefèvre-Noël", given_names="Zoë Françoise", address=HOME)


@dataclass(frozen=True)
class PrintShop:
    """The printer: its private key, and the folder it picks letters up from."""

    folder: Path
    key: Path
    certificate: Path

    @property
    def spool(self) -> Spool:
        return Spool(self.folder)

    def office(self, now: datetime) -> Office:
        words = Words(load_texts(), {CAISSE: "Paris"})
        return Office(words, Printer.load(self.certificate, now), self.spool)

    def files(self) -> list[Path]:
        """Give the letters of every run that is whole."""
        return sorted(
            path for path in self.folder.glob("*/*.p7m") if not path.parent.name.startswith(".")
        )

    def manifest(self, run_id: UUID) -> dict[str, object]:
        manifest: dict[str, object] = json.loads(
            (self.spool.path(run_id) / "manifest.json").read_text()
        )
        return manifest

    def read(self, path: Path) -> str:
        """Open a letter by openssl and read it by pdftotext, as a printer of today would."""
        pdf = subprocess.run(
            ["openssl", "cms", "-decrypt", "-inform", "DER", "-in", path, "-inkey", self.key],
            capture_output=True,
            check=True,
        ).stdout
        text = subprocess.run(
            ["pdftotext", "-layout", "-", "-"], input=pdf, capture_output=True, check=True
        )
        assert text.stderr == b""
        return text.stdout.decode()


def print_shop(
    folder: Path,
    *,
    bits: int = 2048,
    until: datetime = datetime(2040, 1, 1, tzinfo=UTC),
) -> PrintShop:
    """Make a printer's key and certificate."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=bits)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "imprimeur")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(until)
        .sign(key, hashes.SHA256())
    )
    shop = PrintShop(folder / "letters", folder / "printer.key", folder / "printer.pem")
    shop.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    shop.certificate.write_bytes(certificate.public_bytes(Encoding.PEM))
    return shop


def add_claimant(store: Store, number: str = NUMBER, data: PersonData = CLAIRE) -> UUID:
    """Add a dossier without mobile, whose allocataire has an address."""
    account_id = add_account(store, number, mobile=None)
    with store.database.write() as transaction:
        person = transaction.scalars(select(Person).where(Person.account_id == account_id)).one()
        for column, value in seal_person(store.keys, person.id, data).items():
            setattr(person, column, value)
    return account_id


def ask(store: Store, number: str = NUMBER) -> None:
    """Have a password sent, by letter."""
    request_password(store, CAISSE, number, Origin(Channel.VOICE))


def messages(store: Store) -> list[Message]:
    with store.database.read() as transaction:
        return list(
            transaction.scalars(select(Message).order_by(Message.created_at, Message.template))
        )


def living_at(address: Address | None, **more: object) -> PersonData:
    return replace(CLAIRE, address=address, **more)  # type: ignore[arg-type]
