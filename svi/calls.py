"""`svi calls`: the calls received, and those in progress."""

import click
from sqlalchemy import select

from shared import logs
from shared.models import CallRecord
from shared.store import Store
from svi.instants import in_paris
from svi.lists import echo_list, json_line
from svi.service import ami_link, load_settings, open_store

AMI_SECONDS = 5.0


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Un objet JSON par ligne.")
@click.option(
    "--last",
    metavar="NOMBRE",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    help="Combien d'appels, au plus.",
)
@click.option("--live", is_flag=True, help="Les appels en cours, vus d'Asterisk.")
@click.option("--hang-up", metavar="CANAL", help="Raccroche l'appel en cours de ce canal.")
def calls(as_json: bool, last: int, live: bool, hang_up: str | None) -> None:
    """Montre les appels reçus, le plus récent en dernier, ou ceux en cours.

    Les heures sont celles de Paris ; avec --json, en UTC.

    \b
    Exemples :
      svi calls --json --last 100
      svi calls --live
      svi calls --hang-up PJSIP/trunk-00000004
    """
    settings = load_settings()
    logs.silence()
    if hang_up:
        with ami_link(settings) as link:
            link.wait_up(AMI_SECONDS)
            try:
                found = link.hang_up(hang_up)
            except ValueError:
                raise click.ClickException("--hang-up : ce n'est pas un nom de canal") from None
            if not found:
                raise click.ClickException("aucun appel en cours n'a ce canal")
    elif live:
        with ami_link(settings) as link:
            link.wait_up(AMI_SECONDS)
            echo_list(f"{call.channel}  {call.seconds} s" for call in link.calls())
    else:
        with open_store(settings) as store:
            records = reversed(_records(store, last))
            echo_list(map(_as_json if as_json else _as_line, records), as_json=as_json)


def _records(store: Store, last: int) -> list[CallRecord]:
    with store.database.read() as transaction:
        newest = select(CallRecord).order_by(CallRecord.started_at.desc()).limit(last)
        return list(transaction.scalars(newest))


def _as_json(record: CallRecord) -> str:
    return json_line(
        {
            "id": record.id,
            "started_at": record.started_at,
            "ended_at": record.ended_at,
            "line": record.line,
            "caisse": record.caisse,
            "number": record.number_pseudonym,
            "steps": record.steps,
            "outcome": record.outcome,
        }
    )


def _as_line(record: CallRecord) -> str:
    seconds = (record.ended_at - record.started_at).total_seconds()
    steps = " > ".join(str(step[0]) for step in record.steps)
    return (
        f"{in_paris(record.started_at)}  {record.line}  caisse {record.caisse or '?'}"
        f"  {seconds:.0f} s  {record.outcome}  {steps}"
    )
