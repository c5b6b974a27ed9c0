"""`svi campaigns`, as admins use it."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from shared import campaign_import, campaigns, opt_outs
from shared.campaigns import ADMIN, Move, Plan, Recipient
from shared.contacts import Contact
from shared.errors import StoreDownError
from shared.models import Campaign, CampaignState, MessageState, Route
from shared.opt_outs import Source
from shared.rules import DEFAULT_FILE
from shared.store import Store
from sms.templates import Templates
from svi.__main__ import cli
from svi.gateway import dispatching
from svi.service import open_store, prepare_home
from svi.settings import Settings
from tests.campaigns import mobiles, states
from tests.gateway import MoodyProvider, queue, until
from tests.store import execute

SAY = ("--template", "notice.message-a-lire")


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """An installation whose campaigns may write at any hour: the tests run at any."""
    rules = tmp_path / "rules.toml"
    shipped = DEFAULT_FILE.read_text(encoding="utf-8")
    always = shipped.replace("= 08:00:00 #", "= 00:00:00 #").replace(
        "= 21:30:00 #", "= 23:59:59.999999 #"
    )
    rules.write_text(always, encoding="utf-8")
    monkeypatch.setenv("SVI_HOME", str(tmp_path))
    monkeypatch.setenv("SVI_RULES", str(rules))
    return Settings()


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    prepare_home(settings)
    with open_store(settings) as store:
        yield store


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Three people, the first of them twice."""
    path = tmp_path / "destinataires.csv"
    numbers = [*mobiles(3), mobiles(1)[0]]
    path.write_text("mobile\n" + "\n".join(numbers) + "\n", encoding="utf-8")
    return path


def svi(*arguments: str, keys: str = "") -> Result:
    return CliRunner().invoke(cli, ("campaigns", *arguments), input=keys)


def created(file: Path, name: str = "rentree") -> Result:
    result = svi("create", name, *SAY, "--csv", str(file))
    assert result.exit_code == 0, result.output
    return result


def listed() -> list[dict[str, object]]:
    return [json.loads(line) for line in svi("list", "--json").output.splitlines()]


def test_a_file_becomes_a_campaign_that_waits_to_be_started(store: Store, file: Path) -> None:
    told = created(file).output
    assert "3 destinataire(s), 1 en double, 0 opposé(s), 1 SMS chacun" in told
    assert "svi campaigns start rentree" in told
    [shown] = listed()
    assert (shown["name"], shown["state"], shown["recipients"]) == ("rentree", "draft", 3)
    assert campaigns.feed(store) == 0


@pytest.mark.usefixtures("store")
def test_it_is_said_where_nobody_can_answer_stop(file: Path) -> None:
    """R24, D14: a name has no telephone that a reply could come to."""
    unheard = "personne ne peut répondre STOP"
    assert unheard in svi("check", *SAY, "--csv", str(file)).output
    assert unheard not in svi("check", *SAY, "--sender", "36180", "--csv", str(file)).output


def test_a_dry_run_says_what_it_would_come_to_and_keeps_nothing(store: Store, file: Path) -> None:
    gone = Contact(Route.SMS, mobiles(1)[0])
    execute(store, lambda tx: opt_outs.add(store, tx, gone, Source.COMMAND))
    tried = svi("check", *SAY, "--csv", str(file))
    assert tried.exit_code == 0
    assert "2 destinataire(s), 1 en double, 1 opposé(s), 1 SMS chacun" in tried.output
    assert "2 SMS, environ 0,09 €" in tried.output
    assert "finie vers le " in tried.output
    with file.open("a", encoding="utf-8") as opened:
        opened.write("0147258369\n")
    tried = svi("check", *SAY, "--csv", str(file))
    assert tried.exit_code == 1
    assert "ligne 6, colonne mobile : mobile français attendu" in tried.output
    assert "0147258369" not in tried.output
    assert listed() == []


def test_one_wrong_line_and_nothing_is_imported(store: Store, file: Path) -> None:
    with file.open("a", encoding="utf-8") as opened:
        opened.write("0147258369\n")
    refused = svi("create", "rentree", *SAY, "--csv", str(file))
    assert refused.exit_code == 1
    assert "refusé, rien n'a été importé" in refused.output
    assert listed() == []


def test_starting_asks_with_the_count_and_the_cost(store: Store, file: Path) -> None:
    created(file)
    asked = svi("start", "rentree", keys="n\n")
    assert "3 message(s), 3 SMS, environ 0,14 €. Envoyer ?" in asked.output
    assert listed()[0]["state"] == "draft"
    assert "rentree : en cours" in svi("start", "rentree", keys="y\n").output
    assert campaigns.feed(store) == 3


async def test_from_the_file_to_the_telephones(store: Store, file: Path) -> None:
    """As a service runs it: dispatcher and feeder, beside each other, till nothing is left."""
    created(file)
    provider = MoodyProvider()
    with dispatching(store, provider, Templates.load()):
        svi("start", "rentree", "--yes")
        await until(lambda: campaigns.every(store)[0].state == CampaignState.ENDED)
    assert sorted(asked.destination for asked in provider.asked) == sorted(mobiles(3))
    shown = svi("show", "rentree", "--follow").output
    assert "terminée" in shown
    assert "acceptés            3" in shown


def test_those_who_wait_for_their_turn_hide_no_message(store: Store, file: Path) -> None:
    """They are not in the list of messages before they are in the outbox."""
    password = queue(store)
    created(file)

    def ids() -> list[str]:
        lines = CliRunner().invoke(cli, ("sms", "list", "--json")).output.splitlines()
        return [json.loads(line)["id"] for line in lines]

    assert ids() == [str(password)]
    svi("start", "rentree", "--yes")
    campaigns.feed(store)
    assert len(ids()) == 4


def test_paused_resumed_cancelled(store: Store, file: Path) -> None:
    created(file)
    svi("start", "rentree", "--yes")
    assert "rentree : en pause" in svi("pause", "rentree").output
    assert "rentree : en cours" in svi("resume", "rentree").output
    assert "fin estimée" in svi("show", "rentree").output
    assert "rentree : annulée" in svi("cancel", "rentree", "--yes").output
    refused = svi("start", "rentree", "--yes")
    assert refused.exit_code == 1
    assert "rentree : annulée, cela ne se peut pas" in refused.output


def test_a_client_s_campaign_has_its_client_s_name(store: Store) -> None:
    plan = Plan("rentree", Route.SMS, "notice.message-a-lire")
    campaigns.create(store, "site-web", plan)
    assert "site-web:rentree" in svi("list").output
    assert svi("pause", "rentree").exit_code == 1
    assert "prête, cela ne se peut pas" in svi("pause", "site-web:rentree").output


REFUSED = {
    "neither template nor text": ((), "il faut --template ou --text-file"),
    "an unknown template": (("--template", "notice.rien"), "aucun modèle [notice.…] de ce nom"),
    "the store's own": (("--template", "password"), "aucun modèle [notice.…] de ce nom"),
    "a template without mail": ((*SAY, "--mail"), "aucun modèle [notice.…] de ce nom"),
    "another's sender": ((*SAY, "--sender", "Banque"), "l'expéditeur d'aucun modèle"),
    "a subject of an SMS": ((*SAY, "--subject", "Bonjour"), "un SMS n'a pas d'objet"),
}


@pytest.mark.parametrize(("given", "said"), REFUSED.values(), ids=REFUSED)
def test_what_is_wrong_with_the_words_is_said(
    store: Store, file: Path, given: tuple[str, ...], said: str
) -> None:
    refused = svi("create", "rentree", *given, "--csv", str(file))
    assert refused.exit_code == 1
    assert said in refused.output
    assert len(refused.output.splitlines()) == 1
    assert listed() == []


def test_a_text_of_one_s_own(store: Store, file: Path, tmp_path: Path) -> None:
    text = tmp_path / "texte.txt"
    text.write_text("Caf : êtes-vous à jour ? " + "a" * 150 + "\n", encoding="utf-8-sig")
    words = ("--text-file", str(text), "--csv", str(file))
    assert "--sender : à donner" in svi("create", "rentree", *words).output
    made = svi("create", "rentree", *words, "--sender", "Caf")
    assert made.exit_code == 0, made.output
    assert "2 SMS chacun" in made.output
    assert "6 SMS, environ 0,27 €" in svi("start", "rentree", keys="n\n").output
    text.write_text("Voyez http://exemple.fr", encoding="utf-8")
    refused = svi("create", "autre", *words, "--sender", "Caf")
    assert "pas d'adresse sur laquelle cliquer" in refused.output
    text.write_bytes("été".encode("latin-1"))
    assert svi("create", "autre", *words, "--sender", "Caf").exit_code == 1


def test_a_text_by_mail(store: Store, tmp_path: Path) -> None:
    text, file = tmp_path / "texte.txt", tmp_path / "mails.csv"
    text.write_text("Bonjour, où êtes-vous ?", encoding="utf-8")
    file.write_text("mail,departement\nclaire@exemple.fr,974\n", encoding="utf-8")
    words = ("--text-file", str(text), "--csv", str(file), "--mail", "--sender", "Caf")
    assert "--subject : à donner" in svi("create", "rentree", *words).output
    made = svi("create", "rentree", *words, "--subject", "Du nouveau")
    assert made.exit_code == 0, made.output
    assert "sans coût" in svi("start", "rentree", keys="n\n").output


def test_a_name_is_taken_once_and_has_a_shape(store: Store, file: Path) -> None:
    created(file)
    again = svi("create", "rentree", *SAY, "--csv", str(file))
    assert (again.exit_code, "rentree : une campagne a déjà ce nom" in again.output) == (1, True)
    assert "1 à 40 caractères" in svi("create", "Rentrée", *SAY, "--csv", str(file)).output
    assert svi("show", "rien").exit_code == 1


def test_an_import_that_fails_in_the_middle_leaves_nobody_waiting(
    store: Store, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = campaigns.add

    def add_once(store: Store, campaign: Campaign, batch: Sequence[Recipient]) -> int:
        if campaigns.progress(store, campaign.id).total:
            raise StoreDownError("cut")
        return add(store, campaign, batch)

    with monkeypatch.context() as patched:
        patched.setattr(campaign_import, "BATCH", 2)
        patched.setattr(campaigns, "add", add_once)
        assert svi("create", "rentree", *SAY, "--csv", str(file)).exit_code == 1
    cut = campaigns.find(store, ADMIN, "rentree")
    assert cut is not None
    assert cut.state == CampaignState.CANCELLED
    campaigns.feed(store)
    assert states(store, cut.id) == {MessageState.CANCELLED: 2}


def test_an_import_whose_campaign_is_cancelled_meanwhile_says_so(
    store: Store, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = campaigns.add

    def cancelled_first(store: Store, campaign: Campaign, batch: Sequence[Recipient]) -> int:
        campaigns.move(store, ADMIN, campaign.id, Move.CANCEL)
        return add(store, campaign, batch)

    monkeypatch.setattr(campaigns, "add", cancelled_first)
    result = svi("create", "rentree", *SAY, "--csv", str(file))
    assert (result.exit_code, "rentree : annulée pendant son import" in result.output) == (1, True)
