"""`svi sms`: the messages in the outbox and those gone. No text, no telephone number (D12, D16)."""

from collections.abc import Sequence
from datetime import datetime
from textwrap import indent
from typing import Any
from uuid import UUID

import click
from sqlalchemy import func, select

from shared.models import Message, MessageState, Route, SendAttempt
from shared.store import Store
from sms import gsm7
from sms.templates import Templates
from svi import sms_queue
from svi.instants import in_paris
from svi.lists import echo_list, json_line
from svi.service import load_settings, open_store
from svi.sms_providers import drain, list_providers


@click.group(commands=sms_queue.COMMANDS)
def sms() -> None:
    """Suit les messages : où en est chacun, jamais ce qu'il dit ni à qui il va.

    \b
    Exemples :
      svi sms list --json --last 100
      svi sms show 0f8b3c0e-6a52-4a0c-9a53-0c6f6f1f2c11
      svi sms preview code
      svi sms providers
    """


sms.add_command(list_providers)
sms.add_command(drain)


@sms.command("list")
@click.option("--json", "as_json", is_flag=True, help="Un objet JSON par ligne.")
@click.option(
    "--last",
    metavar="NOMBRE",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    help="Combien de messages, au plus.",
)
def list_messages(as_json: bool, last: int) -> None:
    """Montre les messages, le plus récent en dernier.

    Les heures sont celles de Paris ; avec --json, en UTC.

    \b
    Exemple :
      svi sms list --json --last 100
    """
    with open_store(load_settings()) as store:
        newest = reversed(_newest(store, last))
    shown = (_as_dict(message) | {"attempts": tries} for message, tries in newest)
    echo_list(map(json_line if as_json else _as_line, shown), as_json=as_json)


@sms.command()
@click.argument("message_id", metavar="ID", type=click.UUID)
def show(message_id: UUID) -> None:
    """Montre un message et chaque essai de l'envoyer.

    \b
    Exemple :
      svi sms show 0f8b3c0e-6a52-4a0c-9a53-0c6f6f1f2c11
    """
    with open_store(load_settings()) as store, store.database.read() as transaction:
        message = transaction.get(Message, message_id)
        if message is None:
            raise click.ClickException("aucun message n'a cet identifiant")
        of_message = select(SendAttempt).where(SendAttempt.message_id == message_id)
        attempts = transaction.scalars(of_message.order_by(SendAttempt.claim)).all()
    for key, value in _as_dict(message).items():
        text = in_paris(value) if isinstance(value, datetime) else value
        click.echo(f"{key:<12}{text if text is not None else '-'}")
    for attempt in attempts:
        click.echo(
            f"{'attempt':<12}{in_paris(attempt.started_at)}  {attempt.provider}"
            f"  {attempt.result or '?'}  {attempt.code or ''}".rstrip()
        )


@sms.command()
@click.argument("template", metavar="[MODÈLE]", required=False)
@click.option(
    "--set",
    "given",
    multiple=True,
    metavar="NOM=VALEUR",
    callback=lambda _context, _option, pairs: dict(map(_as_pair, pairs)),
    help="Une variable ; sans elle, la plus longue valeur possible. Répétable.",
)
def preview(template: str | None, given: dict[str, str]) -> None:
    """Montre ce que dit un modèle, ou chacun, et combien de septets et de SMS il lui faut.

    Un modèle qui part aussi par courriel y dit autre chose : son objet et son texte suivent. Le
    dernier mot de la ligne est la version du modèle ; `svi sms show` dit celle d'un message.

    \b
    Exemples :
      svi sms preview code --set code=012345 --set minutes=10
      svi sms preview notice.rendez-vous
    """
    path = load_settings().templates
    texts, mails = Templates.load(path), Templates.load(path, Route.MAIL)
    if template and template not in texts.longest:
        known = ", ".join(texts.longest)
        raise click.ClickException(f"aucun modèle {template} ; il y a {known}")
    shown = {template: texts.longest[template]} if template else texts.longest
    names = {name for longest in shown.values() for name in longest}
    for name in given.keys() - names:
        raise click.ClickException(f"aucune variable {name} ; il y a {', '.join(sorted(names))}")
    for name, longest in shown.items():
        variables = {key: given.get(key, longest[key]) for key in longest}
        text, version = texts.render(name, variables)
        segments = gsm7.segments(text)
        click.echo(
            f"{name:<23} {texts.sender(name):<13}{len(gsm7.encode(text)):>4} septets"
            f"  {len(segments)} SMS  {version}"
        )
        for segment in segments:
            click.echo(f"    {segment}")
        if name in mails.longest:
            text, version = mails.render(name, variables)
            click.echo(f"{name:<23} {'courriel':<13}{mails.subject(name)}  {version}")
            click.echo(indent(text.rstrip("\n"), "    "))


def _as_pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise click.BadParameter("il faut NOM=VALEUR")
    return name, value


def _newest(store: Store, last: int) -> Sequence[tuple[Message, int]]:
    """Give the newest messages, each with the number of its attempts."""
    tries = (
        select(func.count())
        .select_from(SendAttempt)
        .where(SendAttempt.message_id == Message.id)
        .scalar_subquery()
    )
    waits_for_its_turn = Message.state == MessageState.HELD  # of a campaign, which tells how many
    newest = select(Message, tries).where(~waits_for_its_turn).order_by(Message.created_at.desc())
    with store.database.read() as transaction:
        rows = transaction.execute(newest.limit(last))
        return [(message, count) for message, count in rows]


def _as_dict(message: Message) -> dict[str, Any]:
    return {
        "id": str(message.id),
        "route": message.route,
        "template": message.template,
        "version": message.template_version,
        "state": message.state,
        "created_at": message.created_at,
        "next_at": message.next_at,
        "expires_at": message.expires_at,
        "ended_at": message.ended_at,
        "provider": message.provider,
        "provider_id": message.provider_id,
        "repeated": message.repeated,
        "client": message.client,
    }


def _as_line(shown: dict[str, Any]) -> str:
    return (
        f"{in_paris(shown['created_at'])}  {shown['id']}  {shown['route']:<6}  {shown['template']}"
        f"  {shown['state']}  {shown['attempts']} essai(s)"
    )
