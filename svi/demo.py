"""The demonstration: invented claimants of several caisses, with passwords shown on the screen."""

from dataclasses import dataclass
from datetime import date
from pathlib import Path

import click
from sqlalchemy import func, select, tuple_

from shared import credentials
from shared.claimants import import_claimants
from shared.models import Account, Payment
from shared.secret import Secret
from shared.store import Store
from svi.settings import Settings

CLAIMANTS = Path(__file__).with_name("demo.csv")


@dataclass(frozen=True)
class Dossier:
    """What a demonstration dossier has beside its persons; payments as (day, euro cents)."""

    department: str  # what the caller keys
    caisse: str
    number: str
    password: str
    payments: tuple[tuple[date, int], ...] = ()


DOSSIERS = (
    Dossier(
        "92",
        "92",
        "0000354",
        "73920461",
        ((date(2026, 10, 5), 41_280), (date(2026, 11, 5), 48_171)),
    ),
    Dossier("75", "75", "1204587", "50718234", ((date(2026, 11, 5), 100_000),)),
    Dossier("974", "974", "0450012", "26190385", ((date(2026, 5, 1), 8_000),)),
    Dossier("20 1", "2A", "0031899", "94037215", ((date(2026, 11, 5), 20_001),)),
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
    """Put the demonstration into a store that does not have it yet; payments come last."""
    with store.database.read() as transaction:
        if transaction.scalar(select(func.count()).select_from(Payment)):
            return
    import_claimants(store, CLAIMANTS)
    for dossier in DOSSIERS:
        credentials.set_secret(store, dossier.caisse, dossier.number, Secret(dossier.password))
    with store.database.write() as transaction:
        ids = {(a.caisse, a.number): a.id for a in transaction.scalars(select(Account))}
        transaction.add_all(
            Payment(account_id=ids[dossier.caisse, dossier.number], paid_on=day, cents=cents)
            for dossier in DOSSIERS
            for day, cents in dossier.payments
        )
