"""The demonstration: invented claimants of several caisses, with passwords shown on the screen."""

import json
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import click
from sqlalchemy import func, select, tuple_

from shared import credentials
from shared.claimants import import_claimants
from shared.dossier_import import import_file
from shared.models import Account, DossierSection
from shared.secret import Secret
from shared.store import Store
from svi.settings import Settings

CLAIMANTS = Path(__file__).with_name("demo.csv")
TOLD = Path(__file__).with_name("demo.jsonl")  # what the information system tells of them


@dataclass(frozen=True)
class Dossier:
    """A demonstration dossier and its password."""

    department: str  # what the caller keys
    caisse: str
    number: str
    password: str


DOSSIERS = (
    Dossier("92", "92", "0000354", "73920461"),
    Dossier("75", "75", "1204587", "50718234"),
    Dossier("974", "974", "0450012", "26190385"),
    Dossier("20 1", "2A", "0031899", "94037215"),
    Dossier("64 1", "641", "0707070", "61583920"),
)


def refuse_real_people(settings: Settings, store: Store) -> None:
    """Keep a shared database's own dossiers out: here passwords are shown in clear (D12)."""
    invented = [(dossier.caisse, dossier.number) for dossier in DOSSIERS]
    real = select(Account.id).where(tuple_(Account.caisse, Account.number).not_in(invented))
    with store.database.read() as transaction:
        if settings.database_url and transaction.scalar(real.limit(1)):
            raise click.ClickException(
                "SVI_DATABASE_URL : cette base a d'autres dossiers que ceux de démonstration ;"
                " lancez svi voice et svi gateway"
            )


def fill(store: Store) -> None:
    """Put the demonstration into a store that does not have it yet; what is told comes last.

    That is told anew each time, or it would grow too old.
    """
    with store.database.read() as transaction:
        filled = transaction.scalar(select(func.count()).select_from(DossierSection))
    if not filled:
        import_claimants(store, CLAIMANTS)
        for dossier in DOSSIERS:
            credentials.set_secret(store, dossier.caisse, dossier.number, Secret(dossier.password))
    _tell(store)


def _tell(store: Store) -> None:
    """Have the information system tell of the dossiers as they are now."""
    as_of = store.clock().isoformat()
    lines = [json.loads(line) for line in TOLD.read_text(encoding="utf-8").splitlines()]
    with TemporaryDirectory() as folder:
        file = Path(folder, TOLD.name)
        file.write_text("\n".join(json.dumps({**line, "as_of": as_of}) for line in lines))
        import_file(store, file)
