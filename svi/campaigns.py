"""`svi campaigns`: the same SMS or mail to many (R24). No recipient is shown, nor what it gets."""

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from shared import campaign_hours, campaign_import
from shared import campaigns as store_campaigns
from shared.campaign_import import Survey
from shared.campaigns import FREE, Move, NameTakenError, NotNowError, Plan
from shared.client_messages import Misfit
from shared.errors import SettingsError
from shared.models import Campaign, CampaignState, MessageState, Route
from shared.progress import Progress
from shared.rules import CampaignRules
from shared.store import Store
from sms.campaign_texts import CampaignTexts
from svi.csv_import import import_file
from svi.instants import in_french, in_paris
from svi.lists import echo_list, json_line
from svi.progress import progress
from svi.service import load_settings, open_store

F = TypeVar("F", bound=Callable[..., object])

FOLLOW_SECONDS = 1.0

STATES: Final[Mapping[str, str]] = {
    CampaignState.LOADING: "en cours d'import",
    CampaignState.DRAFT: "prête",
    CampaignState.RUNNING: "en cours",
    CampaignState.PAUSED: "en pause",
    CampaignState.CANCELLED: "annulée",
    CampaignState.ENDED: "terminée",
}
COUNTS: Final[Mapping[MessageState, str]] = {
    MessageState.HELD: "en attente",
    MessageState.QUEUED: "en file",
    MessageState.SENDING: "en cours d'envoi",
    MessageState.UNCERTAIN: "incertains",
    MessageState.ACCEPTED: "acceptés",
    MessageState.DELIVERED: "remis",
    MessageState.UNDELIVERED: "non remis",
    MessageState.REFUSED: "refusés",
    MessageState.EXPIRED: "expirés",
    MessageState.CANCELLED: "annulés ou opposés",
    MessageState.LOST: "perdus",
}
REASONS: Final[Mapping[Misfit, str]] = {
    Misfit("template", "unknown"): "aucun modèle [notice.…] de ce nom pour cet envoi",
    Misfit("sender", "missing"): "--sender : à donner avec --text-file",
    Misfit("sender", "unknown"): "--sender : ce n'est l'expéditeur d'aucun modèle",
    Misfit("subject", "missing"): "--subject : à donner pour un courriel avec --text-file",
    Misfit("subject", "extra_forbidden"): "--subject : un SMS n'a pas d'objet",
    Misfit("subject", "refused"): "--subject : une ligne de 60 caractères, ni variable ni adresse",
    Misfit("text", "missing"): "texte vide",
    Misfit("text", "variable"): "un texte libre n'a ni variable ni accolade",
    Misfit("text", "link"): "pas d'adresse sur laquelle cliquer ; « caf.fr » seul est permis",
    Misfit("text", "control_character"): "caractère interdit",
    Misfit("text", "not_gsm7"): "lettre hors de l'alphabet GSM-7, sans équivalent",
    Misfit("text", "too_long"): "trop long",
}


@dataclass(frozen=True)
class Words:
    """What a campaign says, as the options give it."""

    template: str | None
    text_file: Path | None
    mail: bool
    sender: str | None
    subject: str | None

    def plan(self, name: str, texts: CampaignTexts) -> Plan:
        """Give the plan; ClickException with all that is wrong with it."""
        if (self.template is None) == (self.text_file is None):
            raise click.ClickException("il faut --template ou --text-file, l'un des deux")
        text = _text(self.text_file) if self.text_file else None
        route = Route.MAIL if self.mail else Route.SMS
        plan = Plan(name, route, self.template or FREE, text, self.sender, self.subject)
        if misfits := texts.judge_plan(plan):
            raise click.ClickException(" ; ".join(REASONS[misfit] for misfit in misfits))
        return texts.written(plan)


@click.group()
def campaigns() -> None:
    """Les campagnes : le même SMS ou courriel à beaucoup de personnes, aux heures de journée.

    Les campagnes d'un client de l'API s'appellent client:nom.

    \b
    Exemples :
      svi campaigns check --template notice.message-a-lire --csv destinataires.csv
      svi campaigns create rentree --template notice.message-a-lire --csv destinataires.csv
      svi campaigns start rentree
      svi campaigns show rentree --follow
    """


def _words(command: F) -> F:
    """Give a command the options that say what a campaign says, and to whom."""
    for option in reversed(
        (
            click.option(
                "--template", metavar="MODÈLE", help="Un modèle, par exemple notice.message-a-lire."
            ),
            click.option(
                "--text-file",
                type=click.Path(path_type=Path),
                help="Un texte libre, le même pour tous, en UTF-8.",
            ),
            click.option(
                "--csv",
                "file",
                type=click.Path(path_type=Path),
                required=True,
                help="Les destinataires : colonne mobile ou mail, et les variables du modèle.",
            ),
            click.option("--mail", is_flag=True, help="Des courriels et non des SMS."),
            click.option(
                "--sender", metavar="NOM", help="L'expéditeur ; d'habitude celui du modèle."
            ),
            click.option(
                "--subject",
                metavar="OBJET",
                help="L'objet du courriel ; d'habitude celui du modèle.",
            ),
        )
    ):
        command = option(command)
    return command


@campaigns.command()
@click.argument("name", metavar="NOM")
@_words
def create(name: str, file: Path, **given: Any) -> None:
    """Prépare une campagne : importe tous les destinataires, ou aucun si une ligne est fausse.

    Rien ne part avant « start ». Un contact présent deux fois reçoit un seul message.

    \b
    Exemple :
      svi campaigns create rentree --template notice.message-a-lire --csv destinataires.csv
    """
    if store_campaigns.NAME.fullmatch(name) is None:
        reason = "1 à 40 caractères parmi a-z, 0-9 et -, une lettre d'abord"
        raise click.ClickException(f"NOM : {reason}")
    texts = CampaignTexts.load(load_settings().templates)
    plan = Words(**given).plan(name, texts)

    def take(store: Store, file: Path, report: Progress) -> Survey:
        return campaign_import.import_file(store, texts, plan, file, report)

    try:
        judged = import_file(file, take, "importé")
    except NameTakenError:
        raise click.ClickException(f"{name} : une campagne a déjà ce nom") from None
    except NotNowError:
        raise click.ClickException(f"{name} : annulée pendant son import") from None
    _echo_survey(judged, texts, plan)
    click.echo(f"prête ; pour l'envoyer : svi campaigns start {name}")


@campaigns.command()
@_words
def check(file: Path, **given: Any) -> None:
    """Essaie à blanc : combien de messages, quelles lignes fausses, quel coût, finis quand.

    Rien n'est conservé ni envoyé.

    \b
    Exemple :
      svi campaigns check --template notice.message-a-lire --csv destinataires.csv
    """
    texts = CampaignTexts.load(load_settings().templates)
    plan = Words(**given).plan("check", texts)
    with open_store(load_settings()) as store, progress("lignes") as show:
        judged = campaign_import.survey(store, texts, plan, file, show)
        rules, end = store.rules.campaign, judged.end(store)
    for finding in judged.findings:
        click.echo(f"{file} : {finding}", err=True)
    _echo_survey(judged, texts, plan)
    click.echo(_cost(rules, judged.by_zone.total(), texts.segments(plan)))
    click.echo(f"commencée maintenant, finie vers le {in_french(end)} (heure de Paris)")
    if judged.findings:
        sys.exit(1)


@campaigns.command("list")
@click.option("--json", "as_json", is_flag=True, help="Un objet JSON par ligne.")
def list_campaigns(as_json: bool) -> None:
    """Montre les campagnes, la plus récente en dernier.

    \b
    Exemple :
      svi campaigns list
    """
    with open_store(load_settings()) as store:
        shown = [_as_dict(store, one) for one in store_campaigns.every(store)]
    echo_list(map(json_line if as_json else _as_line, shown), as_json=as_json)


@campaigns.command()
@click.argument("name", metavar="NOM")
@click.option("--follow", is_flag=True, help="Suit l'envoi jusqu'à la fin, avec une barre.")
def show(name: str, follow: bool) -> None:
    """Montre où en est une campagne : combien de messages dans chaque état, et la fin estimée.

    \b
    Exemple :
      svi campaigns show rentree --follow
    """
    with open_store(load_settings()) as store:
        if follow:
            _follow(store, name)
        campaign = _found(store, name)
        where = store_campaigns.progress(store, campaign.id)
        rate = where.per_second or store.rules.campaign.per_second
        end = campaign_hours.end_of(store.rules.campaign, where.waiting, store.clock(), rate)
    click.echo(f"{'état':<22}{STATES[campaign.state]}")
    click.echo(f"{'destinataires':<22}{where.total}")
    for state, words in COUNTS.items():
        if state in where.by_state:
            click.echo(f"  {words:<20}{where.by_state[state]}")
    if campaign.state == CampaignState.RUNNING:
        click.echo(f"{'messages/seconde':<22}{where.per_second:.1f}")
        click.echo(f"{'fin estimée':<22}{in_french(end)} (heure de Paris)")


@campaigns.command()
@click.argument("name", metavar="NOM")
@click.option("--yes", is_flag=True, help="Sans poser la question.")
def start(name: str, yes: bool) -> None:
    """Envoie une campagne, de 8 h à 21 h 30 là où est chaque destinataire.

    \b
    Exemple :
      svi campaigns start rentree --yes
    """
    texts = CampaignTexts.load(load_settings().templates)
    with open_store(load_settings()) as store:
        campaign = _found(store, name)
        total = store_campaigns.progress(store, campaign.id).total
        plan = Plan(campaign.name, Route(campaign.route), campaign.template, campaign.text)
        cost = _cost(store.rules.campaign, total, texts.segments(plan))
        if not yes:
            click.confirm(f"{total} message(s), {cost}. Envoyer ?", abort=True)
        _move(store, campaign, Move.START)


@campaigns.command()
@click.argument("name", metavar="NOM")
def pause(name: str) -> None:
    """Suspend une campagne, tout de suite ; ce qui est en cours d'envoi part encore.

    \b
    Exemple :
      svi campaigns pause rentree
    """
    with open_store(load_settings()) as store:
        _move(store, _found(store, name), Move.PAUSE)


@campaigns.command()
@click.argument("name", metavar="NOM")
def resume(name: str) -> None:
    """Reprend une campagne suspendue, là où elle en était.

    \b
    Exemple :
      svi campaigns resume rentree
    """
    with open_store(load_settings()) as store:
        _move(store, _found(store, name), Move.RESUME)


@campaigns.command()
@click.argument("name", metavar="NOM")
@click.confirmation_option(
    prompt="Annuler cette campagne, sans retour possible ?", help="Sans poser la question."
)
def cancel(name: str) -> None:
    """Annule une campagne, tout de suite ; ses destinataires sont oubliés.

    \b
    Exemple :
      svi campaigns cancel rentree --yes
    """
    with open_store(load_settings()) as store:
        _move(store, _found(store, name), Move.CANCEL)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise SettingsError(f"{path}: ne peut pas être lu : {error.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{path}: n'est pas en UTF-8") from None


def _found(store: Store, name: str) -> Campaign:
    """Give a campaign by its name, after its client's if it is an API client's."""
    client, _, own = name.rpartition(":")
    campaign = store_campaigns.find(store, client, own)
    if campaign is None:
        raise click.ClickException(f"{name} : aucune campagne n'a ce nom")
    return campaign


def _move(store: Store, campaign: Campaign, how: Move) -> None:
    try:
        moved = store_campaigns.move(store, campaign.client, campaign.id, how) or campaign
    except NotNowError:
        now = STATES[_found(store, _name(campaign)).state]
        raise click.ClickException(f"{_name(campaign)} : {now}, cela ne se peut pas") from None
    click.echo(f"{_name(campaign)} : {STATES[moved.state]}")


def _follow(store: Store, name: str) -> None:
    """Show the bar until nothing is left, or nothing goes on."""
    with progress(name) as bar:
        while True:
            campaign = _found(store, name)
            where = store_campaigns.progress(store, campaign.id)
            bar(where.total - where.left, where.total)
            if campaign.state != CampaignState.RUNNING:
                return
            time.sleep(FOLLOW_SECONDS)


def _name(campaign: Campaign) -> str:
    return f"{campaign.client}:{campaign.name}" if campaign.client else campaign.name


def _cost(rules: CampaignRules, messages: int, segments: int) -> str:
    euros = f"{messages * segments * rules.sms_euros:.2f}".replace(".", ",")
    return f"{messages * segments} SMS, environ {euros} €" if segments else "sans coût par message"


def _echo_survey(judged: Survey, texts: CampaignTexts, plan: Plan) -> None:
    segments = texts.segments(plan)
    click.echo(
        f"{judged.by_zone.total()} destinataire(s), {judged.duplicates} en double,"
        f" {judged.opted_out} opposé(s)" + (f", {segments} SMS chacun" if segments else "")
    )
    if not texts.can_be_answered(plan):
        click.echo(
            "attention : personne ne peut répondre STOP à cet expéditeur ;"
            " --sender prend un numéro de [inbound] dans le fichier des modèles"
        )


def _as_dict(store: Store, campaign: Campaign) -> dict[str, Any]:
    where = store_campaigns.progress(store, campaign.id)
    return {
        "name": _name(campaign),
        "route": campaign.route,
        "template": campaign.template,
        "state": campaign.state,
        "created_at": campaign.created_at,
        "started_at": campaign.started_at,
        "ended_at": campaign.ended_at,
        "recipients": where.total,
        "left": where.left,
    }


def _as_line(shown: dict[str, Any]) -> str:
    return (
        f"{in_paris(shown['created_at'])}  {shown['name']:<20}  {shown['route']:<4}"
        f"  {STATES[shown['state']]:<17}  {shown['recipients'] - shown['left']}"
        f"/{shown['recipients']}"
    )
