"""`svi sms`, `svi gateway` and what `svi up` refuses, as admins use them."""

import json
import re
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from uuid import uuid4

import click
import pytest
from click.testing import CliRunner, Result

from shared import client_messages, outbox
from shared.client_messages import Order
from shared.errors import SettingsError
from shared.models import MessageState
from shared.outbox import Report
from shared.rules import PARIS
from shared.store import Store
from sms.templates import BY_MAIL, DEFAULT_FILE, Templates
from svi import demo
from svi.__main__ import cli
from svi.demo import refuse_real_people
from svi.gateway import dispatching
from svi.service import open_store, prepare_home
from svi.settings import Settings
from tests.gateway import (
    IN_GROUPS,
    MOBILE,
    PASSWORD,
    MoodyProvider,
    message,
    queue,
    says,
    send_for,
    until,
)
from tests.operators import EXAMPLE
from tests.store import add_account

DAY = timedelta(days=1)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("SVI_HOME", str(tmp_path))
    return Settings()


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    prepare_home(settings)
    with open_store(settings) as store:
        yield store


def svi(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments)


def test_messages_are_listed_without_text_and_destination(store: Store) -> None:
    first, second = queue(store), queue(store)
    [claim, _] = outbox.claim(store, "moody", says(IN_GROUPS), 2)
    outbox.finish(store, claim, Report(outbox.Result.REFUSED, "21610"), 0)
    listed = svi("sms", "list", "--json")
    rows = [json.loads(line) for line in listed.output.splitlines()]
    assert [row["id"] for row in rows] == [str(first), str(second)]
    assert [row["state"] for row in rows] == ["refused", "sending"]
    assert [row["attempts"] for row in rows] == [1, 1]
    shown = svi("sms", "show", str(first)).output
    assert "21610" in shown
    created = datetime.fromisoformat(rows[0]["created_at"])
    assert created.utcoffset() == timedelta(0)
    assert f"created_at  {created.astimezone(PARIS):%Y-%m-%d %H:%M:%S}\n" in shown
    everything = listed.output + shown + svi("sms", "list").output
    for personal in (MOBILE, MOBILE[3:], PASSWORD, IN_GROUPS):
        assert personal not in everything


def test_it_is_said_which_version_of_its_template_a_message_was_made_from(store: Store) -> None:
    """The one that the preview shows; unknown before its first try."""
    sent, waits = queue(store), queue(store)
    outbox.claim(store, "moody", Templates.load().render, 1)
    previewed = svi("sms", "preview", "password").output.splitlines()[0].split()[-1]
    rows = [json.loads(line) for line in svi("sms", "list", "--json").output.splitlines()]
    assert [row["version"] for row in rows] == [previewed, None]
    assert f"version     {previewed}\n" in svi("sms", "show", str(sent)).output
    assert "version     -\n" in svi("sms", "show", str(waits)).output


def test_the_newest_are_shown_last(store: Store) -> None:
    queued = [str(queue(store)) for _ in range(5)]
    lines = svi("sms", "list", "--last", "2").output.splitlines()
    assert [line.split()[2] for line in lines] == queued[-2:]


def test_an_unknown_message_is_said_so(store: Store) -> None:
    shown = svi("sms", "show", str(uuid4()))
    assert shown.exit_code == 1
    assert shown.output == "Erreur : aucun message n'a cet identifiant\n"


def test_the_gateway_needs_its_public_address(settings: Settings) -> None:
    refused = svi("gateway")
    assert refused.exit_code == 1
    assert refused.output.startswith("Erreur : SVI_PUBLIC_URL")


def test_the_gateway_needs_its_account_at_the_smsc(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SVI_SMPP_HOST", "smsc.example.org")
    monkeypatch.setenv("SVI_SMPP_ACCOUNT", str(tmp_path / "smpp.json"))
    refused = svi("gateway")
    assert isinstance(refused.exception, SettingsError)
    assert str(refused.exception).startswith(f"{tmp_path / 'smpp.json'}: ne peut pas être lu")


URL = "il faut une adresse comme https://sms.exemple.fr"
SENSELESS = [
    ("SVI_SMPP_PORT", "0", "il faut 1 au moins"),
    ("SVI_SMPP_TLS", "peut-être", "il faut true ou false"),
    ("SVI_SMPP_RECEIPT_IDS", "octal", "il faut l'un de : 'same', 'decimal' ou 'hexadecimal'"),
    ("SVI_PUBLIC_URL", "sms.exemple.fr", URL),
    ("SVI_PUBLIC_URL", "https://", URL),
    ("SVI_PUBLIC_URL", "https://sms.exemple.fr/a b", URL),
    ("SVI_PUBLIC_URL", "https://sms.exemple.fr\nX: 1", URL),
    ("SVI_TWILIO_URL", "ftp://api.twilio.com", URL),
]


@pytest.mark.parametrize(("name", "value", "reason"), SENSELESS)
def test_a_setting_that_makes_no_sense(
    name: str, value: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An address that Twilio could not call would stop it with the first message."""
    monkeypatch.setenv(name, value)
    refused = svi("gateway")
    assert (refused.exit_code, refused.output) == (1, f"Erreur : {name} : {reason}\n")


def test_an_account_nested_beyond_reading_is_refused(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = tmp_path / "smpp.json"
    account.write_text("[" * 100_000)
    account.chmod(0o600)
    monkeypatch.setenv("SVI_SMPP_HOST", "smsc.example.org")
    monkeypatch.setenv("SVI_SMPP_ACCOUNT", str(account))
    refused = svi("gateway")
    assert isinstance(refused.exception, SettingsError)
    assert str(refused.exception).startswith(f"{account}: il faut un system_id")


MAIL_SETTINGS = {
    "no sender": ({}, "SVI_SMTP_SENDER"),
    "no TLS": ({"SVI_SMTP_SENDER": "a@caf.example", "SVI_SMTP_TLS": "none"}, "SVI_SMTP_TLS"),
    "no account": (
        {"SVI_SMTP_SENDER": "a@caf.example", "SVI_SMTP_ACCOUNT": "/none/smtp.json"},
        "/none/smtp.json: ne peut pas être lu",
    ),
}


@pytest.mark.parametrize(("changes", "said"), MAIL_SETTINGS.values(), ids=MAIL_SETTINGS)
def test_the_gateway_needs_to_know_how_mails_leave(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], said: str
) -> None:
    account = settings.home / "smpp.json"
    account.write_text('{"system_id": "caf", "password": "secret"}')
    account.chmod(0o600)
    changes = {
        "SVI_SMPP_HOST": "smsc.example.org",
        "SVI_SMPP_ACCOUNT": str(account),
        "SVI_SMTP_HOST": "mail.example.org",
    } | changes
    for name, value in changes.items():
        monkeypatch.setenv(name, value)
    refused = svi("gateway")
    assert isinstance(refused.exception, SettingsError)
    assert str(refused.exception).startswith(said)


def test_a_database_of_real_people_is_not_for_the_demonstration(
    settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There, messages would be shown on the screen (D12)."""
    monkeypatch.setenv("SVI_DATABASE_URL", settings.url)
    demo.fill(store)
    refuse_real_people(Settings(), store)
    add_account(store)
    with pytest.raises(click.ClickException, match="SVI_DATABASE_URL"):
        refuse_real_people(Settings(), store)
    refuse_real_people(settings, store)  # one's own: for trying


def test_check_reads_the_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = DEFAULT_FILE.read_text(encoding="utf-8")
    wrong = tmp_path / "templates.toml"
    wrong.write_text(texts.replace("Ne le donnez", "Être prudent, ne le donnez"), "utf-8")
    assert svi("check").exit_code == 0
    monkeypatch.setenv("SVI_TEMPLATES", str(wrong))
    checked = svi("check")
    assert checked.exit_code == 1
    assert f"{wrong}: password.text: hors de l'alphabet GSM-7 : Ê" in checked.output


def test_check_reads_the_operator_s_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its secrets: whoever writes the file need not know them."""
    file = tmp_path / "operateur.toml"
    file.write_text(EXAMPLE.read_text("utf-8"), "utf-8")
    monkeypatch.setenv("SVI_HTTP_PROVIDER", str(file))
    assert svi("check").exit_code == 0
    wrong = EXAMPLE.read_text("utf-8").replace('"{text}"', '"{texte}"').replace('"/id"', '"id"')
    file.write_text(wrong, "utf-8")
    checked = svi("check")
    assert checked.exit_code == 1
    assert f"{file}: send: {{texte}} n'existe pas ici" in checked.output
    assert f"{file}: answer.id: valeur impossible" in checked.output


def test_of_a_client_s_message_it_says_whose_it_is(store: Store) -> None:
    order = Order("notice.rendez-vous", MOBILE, {"jour": "lundi", "heure": "9 h"}, DAY)
    message_id = send_for(store, "agenda", order)
    client_messages.cancel(store, "agenda", message_id)
    [listed] = svi("sms", "list", "--json").output.splitlines()
    shown = svi("sms", "show", str(message_id)).output
    row = json.loads(listed)
    assert (row["client"], row["state"]) == ("agenda", "cancelled")
    assert "client      agenda\n" in shown
    for personal in (MOBILE[3:], "lundi", "9 h"):
        assert personal not in listed + shown


def test_check_reads_the_templates_of_one_s_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = DEFAULT_FILE.read_text(encoding="utf-8")
    wrong = tmp_path / "templates.toml"
    wrong.write_text(texts.replace('heure = "23 h 59"', f'heure = "{"9" * 160}"'), "utf-8")
    monkeypatch.setenv("SVI_TEMPLATES", str(wrong))
    checked = svi("check")
    assert checked.exit_code == 1
    assert f"{wrong}: notice.rendez-vous.text: " in checked.output


def test_a_template_of_one_s_own_is_previewed_at_its_longest(settings: Settings) -> None:
    """Counted by hand."""
    shown = svi("sms", "preview", "notice.rendez-vous").output.splitlines()
    head, _, version = shown[0].rpartition("  ")
    assert head == "notice.rendez-vous      Caf           136 septets  1 SMS"
    assert re.fullmatch("[0-9a-f]{8}", version)
    assert "rendez-vous mercredi 30 septembre à 23 h 59." in shown[1]
    filled = svi("sms", "preview", "notice.rendez-vous", "--set", "jour=lundi 3 août").output
    assert "rendez-vous lundi 3 aout à 23 h 59." in filled


PREVIEWS = {
    "its longest": ((), "code                    Caf           128 septets  1 SMS", "000 000"),
    "values": (("--set", "code=012345"), "  128 septets  1 SMS", "012 345"),
    "escaped letters": (("--set", "code=5 €"), "  125 septets  1 SMS", "5 €"),
    "too long": (("--set", "code=" + "é" * 50), "  171 septets  2 SMS", "é" * 50),
}


@pytest.mark.parametrize(("arguments", "sizes", "said"), PREVIEWS.values(), ids=PREVIEWS)
def test_a_preview(settings: Settings, arguments: tuple[str, ...], sizes: str, said: str) -> None:
    """Counted by hand: the text without its code is 121 septets long."""
    shown = svi("sms", "preview", "code", *arguments)
    by_sms, _, by_mail = shown.output.partition("code                    courriel     ")
    head, *segments = by_sms.splitlines()
    subject, _, text = by_mail.partition("\n")
    assert re.fullmatch("Votre code de vérification  [0-9a-f]{8}", subject)
    assert text.startswith("    Bonjour,\n\n    Votre code")
    assert said in by_mail
    assert sizes in head
    assert said in "".join(segments)
    assert len(segments) == int(head.split()[-3])


def test_without_a_template_all_are_previewed(settings: Settings) -> None:
    lines = svi("sms", "preview", "--set", "minutes=10").output.splitlines()
    heads = [line.split()[:2] for line in lines if line and not line.startswith(" ")]
    assert [name for name, sender in heads if sender in {"Caf", "36180"}] == [
        *Templates.load().longest
    ]
    assert [name for name, how in heads if how == "courriel"] == [*BY_MAIL]
    assert len([line for line in lines if "10 minutes" in line]) == 3


WRONG_PREVIEWS = {
    "no such template": (("rappel",), "aucun modèle rappel ; il y a password"),
    "no such variable": (("code", "--set", "nom=a"), "aucune variable nom ; il y a code, minutes"),
    "of another template": (("code", "--set", "password=1"), "aucune variable password"),
    "no value": (("code", "--set", "code"), "il faut NOM=VALEUR"),
}


@pytest.mark.parametrize(("arguments", "said"), WRONG_PREVIEWS.values(), ids=WRONG_PREVIEWS)
def test_a_wrong_preview(settings: Settings, arguments: tuple[str, ...], said: str) -> None:
    shown = svi("sms", "preview", *arguments)
    assert shown.exit_code != 0
    assert said in shown.output


def test_a_wrong_file_is_not_previewed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = tmp_path / "templates.toml"
    wrong.write_text("", "utf-8")
    monkeypatch.setenv("SVI_TEMPLATES", str(wrong))
    shown = svi("sms", "preview")
    assert isinstance(shown.exception, SettingsError)


async def test_the_demonstration_sends_from_a_thread_of_its_own(store: Store) -> None:
    with dispatching(store, MoodyProvider(), Templates.load()):
        queued = queue(store)
        await until(lambda: message(store, queued).state == MessageState.ACCEPTED)
    assert "gateway" not in {thread.name for thread in threading.enumerate()}


def test_a_thread_that_can_not_begin_says_why(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else whoever starts it would wait for ever."""

    def fails(*_: object) -> None:
        raise RuntimeError("no dispatcher")

    monkeypatch.setattr("svi.gateway.Dispatcher", fails)
    with (
        pytest.raises(RuntimeError, match="no dispatcher"),
        dispatching(store, MoodyProvider(), Templates.load()),
    ):
        pytest.fail("it did not begin")
