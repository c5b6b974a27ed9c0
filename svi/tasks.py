"""`svi tasks`: agents' requests, dropped as files (R09)."""

import signal
import threading
from pathlib import Path

import click
import structlog

from shared import logs, task_folder
from shared.errors import StoreError
from shared.store import Store
from svi.lists import echo_list
from svi.service import load_settings, open_store

SECONDS = 2  # between two looks at the folder

folder_argument = click.argument(
    "folder", metavar="DOSSIER", type=click.Path(exists=True, file_okay=False, path_type=Path)
)

log = structlog.get_logger(__name__)


@click.group()
def tasks() -> None:
    """Traite les demandes des agents : un mot de passe provisoire, une fois par demande.

    Une demande est un fichier <task>.json :
    {"task": "2021-11-02-000417", "kind": "password", "caisse": "92", "number": "0000354"}
    La réponse est dans <task>.answer.json, ou dans <task>.refused.json si le fichier est mauvais ;
    la demande va dans done/. Écrivez-la sous un autre nom, puis renommez-la.

    \b
    Exemples :
      svi tasks run /srv/nims
      svi tasks watch /srv/nims
    """


@tasks.command()
@folder_argument
def run(folder: Path) -> None:
    """Traite les demandes qui sont là, puis s'arrête.

    \b
    Exemple :
      svi tasks run /srv/nims
    """
    settings = load_settings()
    logs.configure(settings.logs / "tasks.log")
    with open_store(settings) as store:
        outcomes = task_folder.scan(store, folder)
        echo_list(f"{outcome.task}  {outcome.answer}" for outcome in outcomes)


@tasks.command()
@folder_argument
def watch(folder: Path) -> None:
    """Traite les demandes à mesure qu'elles arrivent, jusqu'à un signal.

    \b
    Exemple :
      svi tasks watch /srv/nims
    """
    settings = load_settings()
    logs.configure(settings.logs / "tasks.log")
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with open_store(settings) as store:
        click.echo("ready")
        while not stop.is_set():
            _look(store, folder)
            stop.wait(SECONDS)


def _look(store: Store, folder: Path) -> None:
    """Take what is there; what the database or the disk refuses is taken at a later look."""
    try:
        for _ in task_folder.scan(store, folder):
            pass
    except (StoreError, OSError) as error:
        log.error("agent_tasks_failed", why=type(error).__name__)
