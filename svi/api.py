"""`svi api`: the keys of the HTTP API, and its description."""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import click

from shared import apikeys
from shared.api.description import describe as describe_routes
from shared.api.table import ROUTES
from shared.apikeys import Scope
from shared.models import ApiKey
from svi.instants import in_paris
from svi.lists import echo_list, json_line
from svi.service import load_settings, open_store, prepare_home


@click.group()
def api() -> None:
    """L'API du site web : ses clés et sa description.

    \b
    Exemples :
      svi api keys add --client site-web --scope logins --scope sessions
      svi api describe > openapi.json
    """


@api.command()
def describe() -> None:
    """Écrit la description OpenAPI 3.1.

    \b
    Exemple :
      svi api describe > openapi.json
    """
    click.echo(json.dumps(describe_routes(ROUTES), indent=2))


@api.group()
def keys() -> None:
    """Les clés : à qui elles sont, ce qu'elles permettent, jusqu'à quand.

    Pour changer de clé sans coupure : en ajouter une, la mettre en service, révoquer l'ancienne.

    \b
    Exemple :
      svi api keys list
    """


@keys.command("add")
@click.option(
    "--client", metavar="NOM", required=True, help="À qui elle est, par exemple site-web."
)
@click.option(
    "--scope",
    "scopes",
    type=click.Choice([scope.value for scope in Scope]),
    multiple=True,
    required=True,
    help="Ce qu'elle permet ; à répéter.",
)
@click.option(
    "--days",
    metavar="JOURS",
    type=click.IntRange(min=1, max=730),
    default=365,
    show_default=True,
    help="Combien de jours elle vit.",
)
def add(client: str, scopes: Sequence[str], days: int) -> None:
    """Fait une clé et la montre, cette fois seulement.

    \b
    Exemple :
      svi api keys add --client site-web --scope logins --scope sessions --days 90
    """
    settings = load_settings()
    prepare_home(settings)
    with open_store(settings) as store:
        key = apikeys.add(store, client, set(map(Scope, scopes)), timedelta(days=days))
    click.echo(key.reveal())


@keys.command("list")
@click.option("--json", "as_json", is_flag=True, help="Un objet JSON par ligne.")
def list_keys(as_json: bool) -> None:
    """Montre les clés, jamais leur secret.

    \b
    Exemple :
      svi api keys list --json
    """
    with open_store(load_settings()) as store:
        shown = [_as_dict(key, store.clock()) for key in apikeys.every(store)]
    echo_list(map(json_line if as_json else _as_line, shown), as_json=as_json)


@keys.command("revoke")
@click.argument("key_id", metavar="ID")
def revoke(key_id: str) -> None:
    """Met fin à une clé, tout de suite. ID est ce qui précède le point.

    \b
    Exemple :
      svi api keys revoke 1f0c6f6f1f2c1142
    """
    with open_store(load_settings()) as store:
        revoked = apikeys.revoke(store, key_id)
    if not revoked:
        raise click.ClickException("aucune clé en service n'a cet identifiant")
    click.echo("clé révoquée")


def _as_dict(key: ApiKey, now: datetime) -> dict[str, Any]:
    return {
        "id": key.id,
        "client": key.client,
        "scopes": key.scopes,
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "state": _state(key, now),
    }


def _state(key: ApiKey, now: datetime) -> str:
    if key.revoked_at is not None:
        return "revoked"
    return "expired" if key.expires_at <= now else "valid"


def _as_line(shown: dict[str, Any]) -> str:
    return (
        f"{shown['id']}  {shown['client']:<16}  {shown['state']:<7}"
        f"  {in_paris(shown['expires_at'])[:10]}  {','.join(shown['scopes'])}"
    )
