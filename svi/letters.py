"""`svi letters`: letters on their way to the printer (R09, R25)."""

import sys
from uuid import UUID

import click

from ivr.script_files import load_script
from shared import logs
from shared.letters import runs, status
from shared.letters.runs import Office
from shared.letters.spool import Printer, Spool
from shared.letters.status import RunView
from shared.letters.texts import load_texts
from shared.letters.writing import Words
from shared.store import Store
from svi.instants import in_french
from svi.service import load_settings, open_store
from svi.settings import Settings

run_argument = click.argument("run_id", metavar="TIRAGE", type=click.UUID)


@click.group()
def letters() -> None:
    """Prépare les lettres pour l'imprimeur, chiffrées à son certificat.

    Chaque tirage est un dossier de SVI_LETTERS : une lettre par fichier (CMS, AES-256) et
    manifest.json. L'imprimeur ne prend que les dossiers qui ont leur manifest.json ; « confirm »
    détruit les textes une fois les lettres postées. À lancer chaque jour ouvré.

    \b
    Exemples :
      svi letters run
      svi letters confirm 0f8b3c0e-6a52-4a0c-9a53-0c6f6f1f2c11
      svi letters status
    """


@letters.command("run")
@click.option(
    "--again",
    type=click.UUID,
    metavar="TIRAGE",
    help="Refait un tirage non confirmé dont les fichiers sont perdus.",
)
def run_command(again: UUID | None) -> None:
    """Met les lettres en attente dans un tirage, et achève ceux qui ont été interrompus.

    Le certificat de l'imprimeur (PEM) est SVI_PRINTER, ou printer.pem dans SVI_HOME.

    \b
    Exemple :
      SVI_PRINTER=/etc/svi/imprimeur.pem svi letters run
    """
    settings = load_settings()
    logs.configure(settings.logs / "letters.log")
    with open_store(settings) as store:
        office = _office(settings, store)
        if again is not None:
            runs.print_again(store, office, again)
        for run_id in [again] if again is not None else runs.run(store, office):
            click.echo(office.spool.path(run_id))


@letters.command()
@run_argument
def confirm(run_id: UUID) -> None:
    """Confirme que les lettres d'un tirage sont postées : leurs textes sont détruits.

    \b
    Exemple :
      svi letters confirm 0f8b3c0e-6a52-4a0c-9a53-0c6f6f1f2c11
    """
    settings = load_settings()
    with open_store(settings) as store:
        count = runs.confirm(store, Spool(settings.letters_folder), run_id)
    click.echo(f"{count} lettre(s) confirmée(s)")


@letters.command("status")
def status_command() -> None:
    """Montre les tirages et ce qui attend ; le code de sortie est 1 si une lettre est en retard.

    \b
    Exemple :
      svi letters status
    """
    with open_store(load_settings()) as store:
        found, hours = status.status(store), store.rules.letters.overdue_hours
    for view in found.runs:
        click.echo(_as_line(view))
    click.echo(f"{found.queued} en attente, dont {found.without_address} sans adresse utilisable")
    if found.overdue:
        click.echo(f"{found.overdue} en retard : demandées depuis plus de {hours} h", err=True)
        sys.exit(1)


def _office(settings: Settings, store: Store) -> Office:
    script = load_script(settings.dialplans)
    return Office(
        words=Words(load_texts(settings.letter_texts), script.caisses),
        printer=Printer.load(settings.printer_certificate, store.clock()),
        spool=Spool(settings.letters_folder),
    )


def _as_line(view: RunView) -> str:
    if view.confirmed_at is not None:
        state = f"confirmé le {in_french(view.confirmed_at)}"
    else:
        state = "prêt, à confirmer" if view.prepared_at is not None else "interrompu"
    return f"{in_french(view.created_at)}  {view.run_id}  {view.letters} lettre(s)  {state}"
