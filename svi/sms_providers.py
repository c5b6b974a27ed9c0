"""`svi sms providers|drain`: who carries our messages, how well, and how to take one away."""

import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import click

from shared import providers
from shared.models import Route
from shared.outbox import Result
from shared.store import Store
from sms.history import history
from svi import carriers
from svi.instants import in_paris
from svi.lists import echo_list, json_line
from svi.progress import progress
from svi.service import load_settings, open_store
from svi.settings import Settings

LOOK_SECONDS = 0.5

OURS: Mapping[str, Route] = {
    "smpp": Route.SMS,
    "twilio": Route.SMS,
    "smtp": Route.MAIL,
    "file-sms": Route.SMS,
    "file-mail": Route.MAIL,
}
"""Every provider that has its name from us, and which messages it takes."""


@click.command("providers")
@click.option("--json", "as_json", is_flag=True, help="Un objet JSON par ligne.")
def list_providers(*, as_json: bool) -> None:
    """Montre les fournisseurs, le préféré d'abord, et ce qu'ils ont fait à toutes les passerelles.

    Combien d'essais de l'heure passée ont été acceptés (accepted), seront repris (retry), sont
    refusés (refused) ou de sort inconnu (uncertain) ; le dernier accepté ; le dernier échec et son
    code. Un fournisseur que SVI_SMS_PROVIDERS ne nomme pas ici paraît s'il a servi dans l'heure, ou
    s'il est hors service.

    \b
    Exemple :
      svi sms providers --json
    """
    settings = load_settings()
    with open_store(settings) as store:
        shown = list(_shown(settings, store))
    echo_list(map(json_line if as_json else _as_line, shown), as_json=as_json)


@click.command()
@click.argument("name", metavar="NOM")
@click.option("--end", is_flag=True, help="Remet le fournisseur en service.")
def drain(name: str, *, end: bool) -> None:
    """Met un fournisseur hors service à toutes les passerelles, sans les arrêter.

    Il ne reçoit plus de message ; les autres prennent la suite, et sans autre les messages
    attendent. La commande attend que rien ne soit plus en cours chez lui : envoi, ou sort inconnu,
    que les passerelles tirent au clair en deux minutes (D19) ; si aucune ne le fait, elle le dit et
    s'arrête. Ctrl-C arrête l'attente, pas la mise hors service. Les accusés de ce qu'il a déjà pris
    arrivent toujours.

    \b
    Exemples :
      svi sms drain smpp
      svi sms drain smpp --end      le remet en service
    """
    settings = load_settings()
    known = {**carriers.names(settings), **OURS}
    if name not in known:
        raise click.ClickException(f"aucun fournisseur {name} ; il y a {', '.join(known)}")
    with open_store(settings) as store:
        if end:
            was_out = providers.restore(store, name)
            click.echo(f"{name} est {'de nouveau' if was_out else 'déjà'} en service")
            return
        since = providers.drain(store, name)
        click.echo(f"{name} est hors service depuis le {in_paris(since)}")
        try:
            left = _wait_until_empty(store, name)
        except KeyboardInterrupt:
            raise click.ClickException(
                f"{name} reste hors service, avec {providers.under_way(store, name)} message(s)"
                f" en cours ; pour l'y remettre : svi sms drain {name} --end"
            ) from None
    if left:
        raise click.ClickException(
            f"{name} est hors service, et {left} message(s) y restent de sort inconnu : aucune"
            " passerelle ne le tire au clair ; elles sont arrêtées, ou leurs fournisseurs refusent"
            " tous notre compte (provider_stopped dans logs/gateway.log)"
        )
    click.echo("plus aucun message n'est en cours chez lui")


def _wait_until_empty(store: Store, name: str) -> int:
    """Wait until nothing is under way; give what is left since nobody settles it any more."""
    most = 0
    with progress("messages en cours : envoi, ou sort inconnu") as show:
        while left := providers.under_way(store, name):
            if left == providers.overdue(store, name):
                break
            most = max(most, left)
            show(most - left, most)
            time.sleep(LOOK_SECONDS)
        show(most - left, most)
    return left


def _shown(settings: Settings, store: Store) -> Sequence[dict[str, Any]]:
    drained = providers.drained(store)
    configured = carriers.names(settings)
    rows = [
        _as_dict(store, name, route, drained.get(name))
        for name, route in {**configured, **OURS}.items()
    ]
    return [
        row
        for row in rows
        if row["name"] in configured or row["drained_at"] or any(row["last_hour"].values())
    ]


def _as_dict(store: Store, name: str, route: Route, drained_at: datetime | None) -> dict[str, Any]:
    done = history(store, name)
    return {
        "name": name,
        "route": route,
        "last_hour": done.last_hour,
        "last_acceptance": done.last_acceptance,
        "last_failure": done.last_failure and done.last_failure._asdict(),
        "drained_at": drained_at,
    }


def _as_line(shown: dict[str, Any]) -> str:
    counts = "  ".join(f"{shown['last_hour'][result]} {result}" for result in Result)
    accepted, failure, since = (
        shown[name] for name in ("last_acceptance", "last_failure", "drained_at")
    )
    parts = [
        f"{shown['name']:<9}  {shown['route']:<4}  {counts}",
        f"dernier accepté {in_paris(accepted) if accepted else '-'}",
        f"dernier échec {in_paris(failure['at']) + ' ' + failure['code'] if failure else '-'}",
        *([f"hors service depuis {in_paris(since)}"] if since else []),
    ]
    return "  ".join(parts)
