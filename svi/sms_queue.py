"""`svi sms retry|cancel|stats`: what an admin does about messages, and how they fare."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

import click
from sqlalchemy.orm import Session as Transaction

from shared import audit, message_stats, notices, outbox, resets
from shared.audit import Event
from shared.message_stats import Fared, Kind, Outcome, Spread, Stats
from shared.models import Message, MessageState, Priority, Route
from shared.origin import ADMIN
from shared.store import Store
from svi.instants import in_paris
from svi.lists import echo_list, json_line
from svi.service import load_settings, open_store

SINCE = re.compile(r"([1-9][0-9]{0,3})([hd])")
UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1)}
BAR = 10  # cells


class Carried(NamedTuple):
    """What cancelling a message means for what it carries."""

    never_left: str = ""
    may_be_there: str = ""


PASSWORD = Carried(
    " ; son mot de passe, connu de personne, n'entre jamais en vigueur",
    " ; s'il arrive, son mot de passe est bon (D03)",
)
CODE = Carried(" ; son code n'est connu de personne", " ; s'il arrive, son code est bon")
CARRIED: Mapping[str, Carried] = {
    resets.Template.PASSWORD: PASSWORD,
    resets.Template.PASSWORD_OLD_MOBILE: PASSWORD,
    # Until then the password that nobody knows counts as a letter under way.
    resets.Template.LETTER: Carried(" ; une autre n'est écrite qu'après letter_days (D03)"),
    notices.Template.CODE: CODE,
    notices.Template.CODE_OLD_MOBILE: CODE,
}


@click.command()
@click.argument("ids", metavar="[ID]…", nargs=-1, type=click.UUID)
@click.option("--all", "everything", is_flag=True, help="Tous ceux qui attendent après un échec.")
def retry(ids: tuple[UUID, ...], everything: bool) -> None:
    """Envoie tout de suite un message qui attend son prochain essai.

    Un message incertain n'est pas renvoyé à la main : il est peut-être arrivé (D19). D'un message
    terminé le texte est détruit (D12, D16) : il faut une nouvelle demande.

    \b
    Exemples :
      svi sms retry 0f8b3c0e-6a52-4a0c-9a53-0c6f6f1f2c11
      svi sms retry --all
    """
    if bool(ids) == everything:
        raise click.ClickException("donnez un ou plusieurs ID, ou --all")
    with open_store(load_settings()) as store:
        if everything:
            click.echo(f"{outbox.hasten(store)} message(s) à envoyer maintenant")
            return
        refusals = {one: why for one in ids if (why := _retry(store, one)) is not None}
    for one in ids:
        click.echo(f"{one}  {refusals.get(one, 'à envoyer maintenant')}", err=one in refusals)
    if refusals:
        raise click.exceptions.Exit(1)


@click.command()
@click.argument("message_id", metavar="ID", type=click.UUID)
def cancel(message_id: UUID) -> None:
    """Retire un message ; s'il est peut-être parti, il n'est plus essayé.

    Ce qu'il portait et que personne n'a reçu n'est connu de personne (D12). Un mot de passe en
    vigueur le reste, puisque le nouveau n'a jamais servi (D03). Ce qui a été demandé compte dans
    les limites d'envoi comme si c'était parti (R15, D06).

    \b
    Exemple :
      svi sms cancel 0f8b3c0e-6a52-4a0c-9a53-0c6f6f1f2c11
    """
    with open_store(load_settings()) as store, store.database.write() as transaction:
        message = transaction.get(Message, message_id, with_for_update=True)
        if message is None:
            raise click.ClickException("aucun message n'a cet identifiant")
        if message.run_id is not None and message.ended_at is None:
            raise click.ClickException("cette lettre est chez l'imprimeur : elle ne revient pas")
        if message.ended_at is not None:
            raise click.ClickException(f"ce message est terminé ({message.state})")
        now = store.clock()
        outbox.cancel(message, now)
        _note(transaction, "message-cancelled", now, message)
    click.echo(_what_cancelling_means(message))


@click.command()
@click.option(
    "--since",
    "life",
    metavar="DURÉE",
    default="24h",
    show_default=True,
    callback=lambda _context, _option, text: _as_duration(text),
    help="24h, 7d : les messages demandés depuis.",
)
@click.option("--json", "as_json", is_flag=True, help="Un objet JSON par ligne.")
def stats(life: timedelta, as_json: bool) -> None:
    """Compte les messages par voie et modèle, puis leurs essais par fournisseur et réponse.

    La barre est la part de ceux que le fournisseur a pris, ou de chaque réponse d'un fournisseur.
    Les durées vont de la demande à ce que le fournisseur a pris, et à ce qu'il dit remis : la
    moitié des messages a mis la première au plus, 95 sur 100 la seconde.

    \b
    Exemples :
      svi sms stats
      svi sms stats --since 7d --json
    """
    with open_store(load_settings()) as store:
        counted = message_stats.since(store, store.clock() - life)
    echo_list((_json_lines if as_json else _lines)(counted), as_json=as_json)


COMMANDS = (retry, cancel, stats)


def _retry(store: Store, message_id: UUID) -> str | None:
    """Make a message due now; or say why it isn't to be."""
    now = store.clock()
    with store.database.write() as transaction:
        message = transaction.get(Message, message_id, with_for_update=True)
        if message is None:
            return "aucun message n'a cet identifiant"
        refusal = _why_not(message, now)
        if refusal is None:
            message.next_at = now
            outbox.announce(store, transaction.connection())
            _note(transaction, "message-hastened", now, message)
    return refusal


def _note(transaction: Transaction, event: Event, now: datetime, message: Message) -> None:
    audit.note(transaction, event, now, ADMIN, message.account_id, subject_id=message.id)


def _why_not(message: Message, now: datetime) -> str | None:
    """Say why a message can't be tried at once; None if it can."""
    reasons = (
        (
            message.ended_at is not None,
            f"terminé ({message.state}) : son texte est détruit, il faut une nouvelle demande",
        ),
        (message.route == Route.LETTER, "une lettre part avec un tirage : svi letters run"),
        (message.state == MessageState.SENDING, "il est en cours d'envoi"),
        (message.state == MessageState.HELD, "il attend son tour : svi campaigns show"),
        (
            message.state == MessageState.UNCERTAIN,
            f"peut-être arrivé (D19) ; {_what_becomes_of_doubt(message)}",
        ),
        (message.expires_at <= now, "sa vie est finie : il faut une nouvelle demande"),
        (message.next_at <= now, "il est déjà à envoyer"),
        (message.failures == 0, "il n'a pas échoué : il attend son heure"),
    )
    return next((why for holds, why in reasons if holds), None)


def _what_becomes_of_doubt(message: Message) -> str:
    may_be = not message.repeated and message.priority != Priority.CAMPAIGN
    if may_be and message.next_at < message.expires_at:
        return f"sans nouvelles il est renvoyé une fois, à {in_paris(message.next_at)}"
    return "il n'est pas renvoyé"


def _what_cancelling_means(message: Message) -> str:
    """Say what is true of a message that was just taken back, and of what it carries."""
    carried = CARRIED.get(message.template, Carried())
    if message.state != MessageState.CANCELLED:
        return f"peut-être parti ; il n'est plus essayé{carried.may_be_there}"
    if message.repeated:  # its first try is still in doubt
        return f"annulé ; un essai d'avant est peut-être arrivé (D19){carried.may_be_there}"
    return f"annulé : il ne partira pas{carried.never_left}"


def _as_duration(text: str) -> timedelta:
    found = SINCE.fullmatch(text)
    if found is None:
        raise click.ClickException("--since : il faut un nombre d'heures ou de jours : 24h, 7d")
    return int(found[1]) * UNITS[found[2]]


def _json_lines(counted: Stats) -> Iterator[str]:
    for kind, fared in sorted(counted.kinds.items()):
        times = {
            "accepted_seconds": Spread.of(fared.to_acceptance),
            "delivered_seconds": Spread.of(fared.to_delivery),
        }
        yield json_line(
            kind._asdict()
            | {"asked": fared.asked, "states": fared.states, "tries": fared.tries}
            | {name: spread and asdict(spread) for name, spread in times.items()}
        )
    for outcome, count in _ranked(counted):
        yield json_line(outcome._asdict() | {"attempts": count})


def _lines(counted: Stats) -> Iterator[str]:
    for kind, fared in sorted(counted.kinds.items()):
        yield from _of_kind(kind, fared)
    of_provider: Counter[str] = Counter()
    for outcome, count in counted.outcomes.items():
        of_provider[outcome.provider] += count
    for outcome, count in _ranked(counted):
        answer = f"{outcome.result or '?'} {outcome.code or ''}"
        share = _share(count, of_provider[outcome.provider])
        yield f"{outcome.provider:<7} {answer:<24}{count:>7} essai(s)   {share}"


def _ranked(counted: Stats) -> list[tuple[Outcome, int]]:
    """Give what providers answered, of each the most frequent first."""
    by_name = sorted(counted.outcomes.items(), key=lambda one: json_line(one[0]._asdict()))
    return sorted(by_name, key=lambda one: (one[0].provider, -one[1]))


def _of_kind(kind: Kind, fared: Fared) -> Iterator[str]:
    taken = sum(fared.states[state] for state in (MessageState.ACCEPTED, MessageState.DELIVERED))
    share = _share(taken, fared.asked)
    yield f"{kind.route:<7} {kind.template:<24}{fared.asked:>7} demandé(s) {share}"
    ranked = sorted(fared.states.items(), key=lambda one: (-one[1], one[0]))
    states = ", ".join(f"{state} {count}" for state, count in ranked)
    yield f"{'':<8}{states} ; {fared.tries} essai(s)"
    times = {"pris": Spread.of(fared.to_acceptance), "remis": Spread.of(fared.to_delivery)}
    if told := [f"{what} en {_seconds(spread)}" for what, spread in times.items() if spread]:
        yield f"{'':<8}{' ; '.join(told)}"


def _share(count: int, of: int) -> str:
    """Draw a share as a bar, with its percentage."""
    share = count / max(of, 1)  # a message may have come while they were counted
    full = round(BAR * share)
    return f"{'█' * full}{'░' * (BAR - full)} {share:>4.0%}"


def _seconds(spread: Spread) -> str:
    return f"{spread.p50:.1f} s, 95 % en {spread.p95:.1f} s".replace(".", ",")
