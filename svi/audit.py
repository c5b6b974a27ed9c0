"""`svi audit`: the trail of what was changed and read, and proof that it is whole (D16)."""

import json
from dataclasses import asdict
from pathlib import Path

import click

from shared import audit_seal
from shared.audit_seal import Fault, Head, Kind
from svi.instants import in_paris
from svi.progress import progress
from svi.service import load_settings, open_store

KINDS = {Kind.ALTERED: "modifiée", Kind.MISSING: "manquante", Kind.ADDED: "ajoutée"}


@click.group()
def audit() -> None:
    """Le journal d'audit : le vérifier, en exporter la tête, effacer ce qui est trop ancien.

    \b
    Exemple :
      svi audit verify --head tete.json
    """


@audit.command()
def head() -> None:
    """Scelle ce qui ne l'est pas encore et écrit la tête du journal, à garder ailleurs.

    \b
    Exemple :
      svi audit head > tete.json
    """
    with open_store(load_settings()) as store:
        audit_seal.seal_new(store)
        newest = audit_seal.head(store)
    if newest is None:
        raise click.ClickException("le journal est vide")
    click.echo(json.dumps(asdict(newest)))


@audit.command()
@click.option("--head", "file", type=click.Path(path_type=Path), help="Une tête exportée avant.")
def verify(file: Path | None) -> None:
    """Vérifie tout le journal ; nomme la première ligne modifiée, manquante ou ajoutée.

    \b
    Exemple :
      svi audit verify --head tete.json
    """
    exported = _read_head(file) if file else None
    with open_store(load_settings()) as store, progress("lots") as show:
        verdict = audit_seal.verify(store, exported, show)
    if verdict.fault is not None:
        raise click.ClickException(_described(verdict.fault))
    click.echo(f"{verdict.rows} lignes vérifiées, {verdict.unsealed} pas encore scellées")


@audit.command()
def purge() -> None:
    """Efface les jours entiers de plus de 12 mois (rules.toml) ; la vérification part alors de là.

    Sur PostgreSQL, avec le rôle qui a le droit d'effacer (docs/securite.md).

    \b
    Exemple :
      SVI_DATABASE_URL=postgresql+psycopg://svi_purge@machine/svi svi audit purge
    """
    with open_store(load_settings()) as store:
        purged = audit_seal.purge(store, store.rules.retention.audit_days)
    click.echo(f"{purged} lignes effacées")


def _read_head(file: Path) -> Head:
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        return Head(int(data["batch"]), str(data["mac"]), int(data["rows"]))
    except OSError as error:
        reason = f"ne peut pas être lu : {error.strerror}"
        raise click.ClickException(f"{file} : {reason}") from None
    except (ValueError, KeyError, TypeError):
        raise click.ClickException(f"{file} : n'est pas une tête de journal") from None


def _described(fault: Fault) -> str:
    batch = f"lot {fault.batch}" if fault.batch is not None else "hors de tout lot"
    kind = KINDS[fault.kind]
    what = f"ligne {fault.row} {kind}" if fault.row is not None else f"lignes {kind}s"
    when = f", {in_paris(fault.at)}" if fault.at is not None else ""
    return f"journal altéré : {what}, {batch}{when}"
