"""`svi accounts`: claimants and their dossiers."""

import sys
from pathlib import Path

import click

from shared import accounts as store_accounts
from shared import disclosure
from shared.accounts import NewAccount
from shared.claimants import import_claimants
from shared.files import write_whole
from shared.secret import Secret
from svi.csv_import import import_file
from svi.life_cycle import OF_ACCOUNTS
from svi.options import caisse_option, number_option
from svi.service import load_settings, open_store, prepare_home


@click.group()
def accounts() -> None:
    """Les allocataires et leurs dossiers.

    \b
    Exemple :
      svi accounts import allocataires.csv
    """


@accounts.command("import")
@click.argument("file", metavar="FICHIER", type=click.Path(path_type=Path))
def import_command(file: Path) -> None:
    """Importe les personnes d'un fichier CSV : tout, ou rien si une ligne est fausse.

    Le format est décrit dans docs/claimants.md.

    \b
    Exemple :
      svi accounts import allocataires.csv
    """
    result = import_file(file, import_claimants, "importé")
    click.echo(
        f"{result.created} personnes ajoutées, {result.updated} mises à jour,"
        f" {result.unchanged} inchangées"
    )
    if result.closed:
        click.echo(f"{result.closed} laissées de côté : leur dossier est fermé")


@accounts.command("add")
@caisse_option
@number_option
@click.option("--mobile", metavar="MOBILE", help="Le mobile, de la forme +33612345678.")
@click.option(
    "--password-stdin",
    is_flag=True,
    required=True,
    expose_value=False,
    help="Lit le mot de passe sur l'entrée.",
)
def add(caisse: str, number: str, mobile: str | None) -> None:
    """Crée un dossier avec un mot de passe donné : démonstration et essais seulement.

    Le mot de passe est lu sur l'entrée standard, jamais sur la ligne de commande, que tout
    utilisateur de la machine peut lire.

    \b
    Exemple :
      printf 73920461 | svi accounts add --caisse 92 --number 0000354 --password-stdin
    """
    settings = load_settings()
    prepare_home(settings)
    password = Secret(sys.stdin.buffer.readline().rstrip(b"\r\n").decode(errors="replace"))
    with open_store(settings) as store:
        store_accounts.add(store, NewAccount(caisse, number, mobile), password)
    click.echo("dossier créé")


@accounts.command("show")
@caisse_option
@number_option
def show(caisse: str, number: str) -> None:
    """Montre ce que l'on tient d'un dossier, sans nom, contact ni secret.

    \b
    Exemple :
      svi accounts show --caisse 92 --number 0000354
    """
    settings = load_settings()
    with open_store(settings) as store:
        view = store_accounts.show(store, caisse, number)
    if view is None:
        raise click.ClickException("il n'y a pas de tel dossier")
    situation = f"{view.situation}, fermé" if view.closed else view.situation
    click.echo(f"caisse {view.caisse}, {situation}, sessions ouvertes : {view.open_sessions}")
    for person in view.persons:
        click.echo(f"  {person}")
    for credential in view.credentials:
        click.echo(f"  {credential}")


@accounts.command("export")
@caisse_option
@number_option
@click.option(
    "--file", type=click.Path(path_type=Path), required=True, help="Le fichier JSON à écrire."
)
def export(caisse: str, number: str, file: Path) -> None:
    """Écrit tout ce que l'on tient d'un dossier et de ses personnes (demande d'accès, RGPD).

    Le fichier contient des données en clair : son propriétaire seul peut le lire. L'opération est
    inscrite au journal d'audit.

    \b
    Exemple :
      svi accounts export --caisse 92 --number 0000354 --file dossier.json
    """
    with open_store(load_settings()) as store:
        text = disclosure.export(store, caisse, number)
    if text is None:
        raise click.ClickException("il n'y a pas de tel dossier")
    write_whole(file, text, mode=0o600)
    click.echo(f"{file} : écrit")


@accounts.command("erase")
@caisse_option
@number_option
@click.confirmation_option(
    prompt="Effacer les personnes de ce dossier, sans retour possible ?",
    help="Sans poser la question.",
)
def erase(caisse: str, number: str) -> None:
    """Efface les personnes d'un dossier et met fin à ses secrets (demande d'effacement, RGPD).

    Restent le numéro et le journal d'audit, le temps que la loi demande.

    \b
    Exemple :
      svi accounts erase --caisse 92 --number 0000354 --yes
    """
    with open_store(load_settings()) as store:
        found = disclosure.erase(store, caisse, number)
    if not found:
        raise click.ClickException("il n'y a pas de tel dossier")
    click.echo("dossier effacé")


for _command in OF_ACCOUNTS:
    accounts.add_command(_command)
