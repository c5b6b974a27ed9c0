"""`svi dossiers`: what the information system tells of dossiers (R38)."""

import json
import sys
from pathlib import Path

import click
from pydantic import TypeAdapter

from shared.dossier_data import DelaysLine, DossierLine
from shared.dossier_import import Imported, files_of, import_file, put_away
from shared.store import Store
from svi.progress import progress
from svi.service import load_settings, open_store, prepare_home


@click.group()
def dossiers() -> None:
    """Ce que les dossiers contiennent : paiements, droits, demandes, courriers…

    \b
    Exemple :
      svi dossiers import /srv/depot
    """


@dossiers.command("import")
@click.argument("path", metavar="CHEMIN", type=click.Path(path_type=Path))
def import_command(path: Path) -> None:
    """Importe un fichier JSON Lines, ou tous les *.jsonl d'un dossier, rangés ensuite dans done/.

    Chaque ligne juste est prise ; chaque ligne fausse est signalée, et le code de retour est 1.
    Une donnée plus ancienne n'en remplace jamais une plus récente : un import coupé se relance.
    Le format est décrit dans docs/dossiers.md.

    \b
    Exemple :
      svi dossiers import /srv/depot/2026-11-21.jsonl
    """
    settings = load_settings()
    prepare_home(settings)
    with open_store(settings) as store:
        files = files_of(path, store.clock().timestamp())
        bad = sum(_import_one(store, file, keep=file == path) for file in files)
    sys.exit(1 if bad else 0)


def _import_one(store: Store, file: Path, *, keep: bool) -> int:
    """Import a file and tell how it went; give how many lines are bad."""
    with progress("octets") as show:
        result = import_file(store, file, show)
    if not keep:
        put_away(file)
    for finding in result.findings:
        click.echo(f"{file} : {finding}", err=True)
    untold = result.bad - len({finding.line for finding in result.findings})
    if untold:
        click.echo(f"{file} : et {untold} autres lignes fausses", err=True)
    click.echo(f"{file} : {_counts(result)}")
    return result.bad


def _counts(result: Imported) -> str:
    counts = f"{result.new} lignes prises, {result.known} déjà connues, {result.bad} fausses"
    return f"{counts}, {result.closed} de dossiers fermés" if result.closed else counts


@dossiers.command("describe")
def describe() -> None:
    """Montre le schéma JSON d'une ligne de ces fichiers.

    \b
    Exemple :
      svi dossiers describe > dossiers.schema.json
    """
    line: TypeAdapter[DossierLine | DelaysLine] = TypeAdapter(DossierLine | DelaysLine)
    click.echo(json.dumps(line.json_schema(), ensure_ascii=False, indent=2))
