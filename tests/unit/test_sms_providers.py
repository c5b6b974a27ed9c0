"""`svi sms providers` and `svi sms drain`, as admins use them; SVI_SMS_PROVIDERS."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from click.testing import Result as Shown
from sqlalchemy import event, select, text, update

from shared import outbox, providers
from shared.models import AuditEntry, Message, MessageState
from shared.outbox import Claim, Rendered, Report, Result
from shared.store import Store
from sms.history import history
from svi.__main__ import cli
from svi.service import open_store, prepare_home
from svi.settings import Settings
from tests.gateway import IN_GROUPS, LONG, MOBILE, queue, queued_message
from tests.operators import EXAMPLE
from tests.store import FakeClock, execute

HOUR = timedelta(hours=1)
COMMAND_SECONDS = timedelta(seconds=LONG)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("SVI_HOME", str(tmp_path))
    monkeypatch.setenv("SVI_SMS_PROVIDERS", "twilio, smpp")
    return Settings()


@pytest.fixture
def own_store(settings: Settings) -> Iterator[Store]:
    """The store that the commands open too."""
    prepare_home(settings)
    with open_store(settings) as store:
        yield store


def svi(*arguments: str) -> Shown:
    return CliRunner().invoke(cli, arguments)


def attempt(store: Store, provider: str, result: Result | None, code: str = "") -> Claim:
    """Have a provider asked; None: it is not known yet what came of it."""
    queue(store)
    [claim] = outbox.claim(store, provider, lambda *_: Rendered(IN_GROUPS, ""), 1)
    if result is not None:
        outbox.finish(store, claim, Report(result, code, provider_id="SM1"), 3600)
    return claim


def listed(*arguments: str) -> list[dict[str, Any]]:
    lines = svi("sms", "providers", "--json", *arguments).output.splitlines()
    return [json.loads(line) for line in lines]


# What each has done


def test_they_are_shown_in_their_order_with_what_they_did(own_store: Store) -> None:
    for result, code in [
        (Result.ACCEPTED, ""),
        (Result.ACCEPTED, ""),
        (Result.RETRY, "unreachable"),
        (Result.REFUSED, "21610"),
        (None, ""),
    ]:
        attempt(own_store, "smpp", result, code)
    providers.drain(own_store, "twilio")
    twilio, smpp = listed()
    assert [twilio["name"], smpp["name"]] == ["twilio", "smpp"]
    assert smpp["last_hour"] == {"accepted": 2, "retry": 1, "refused": 1, "uncertain": 0}
    assert set(twilio["last_hour"].values()) == {0}
    assert (twilio["last_acceptance"], twilio["last_failure"]) == (None, None)
    assert (smpp["last_failure"]["code"], smpp["drained_at"]) == ("unreachable", None)
    for instant in (twilio["drained_at"], smpp["last_acceptance"], smpp["last_failure"]["at"]):
        age = own_store.clock() - datetime.fromisoformat(instant)
        assert timedelta(0) <= age < COMMAND_SECONDS
    shown = svi("sms", "providers").output
    first, second = shown.splitlines()
    assert first.split()[:2] == ["twilio", "sms"]
    assert "hors service depuis" in first
    assert "2 accepted  1 retry  1 refused  0 uncertain" in second
    assert second.endswith(" unreachable")
    assert "hors service" not in second
    for personal in (MOBILE[3:], IN_GROUPS):
        assert personal not in shown


def test_one_that_is_not_configured_is_shown_if_it_served_or_is_drained(own_store: Store) -> None:
    assert [one["name"] for one in listed()] == ["twilio", "smpp"]
    attempt(own_store, "smtp", Result.ACCEPTED)
    providers.drain(own_store, "file-sms")
    assert [one["name"] for one in listed()] == ["twilio", "smpp", "smtp", "file-sms"]


def test_the_history_is_of_one_provider_and_of_an_hour(store: Store, clock: FakeClock) -> None:
    attempt(store, "smpp", Result.ACCEPTED)
    attempt(store, "smpp", Result.RETRY, "unreachable")
    first = clock.now
    clock.advance(HOUR - timedelta(seconds=1))
    attempt(store, "smpp", Result.UNCERTAIN, "timeout")
    attempt(store, "twilio", Result.ACCEPTED)
    before = history(store, "smpp")
    assert before.last_hour == {
        Result.ACCEPTED: 1,
        Result.RETRY: 1,
        Result.REFUSED: 0,
        Result.UNCERTAIN: 1,
    }
    assert (before.last_acceptance, before.last_failure) == (first, (clock.now, "timeout"))
    clock.advance(timedelta(seconds=1))
    assert set(history(store, "smpp").last_hour.values()) == {0, 1}
    assert history(store, "smpp").last_hour[Result.ACCEPTED] == 0
    assert history(store, "smpp").last_acceptance == first


def test_a_year_of_attempts_is_not_read(store: Store) -> None:
    """Each question is answered by an index, whose condition names all that narrows it."""
    _take_many(store)
    asked: list[tuple[str, Any]] = []

    def note(_c: object, _cursor: object, statement: str, parameters: object, *_: object) -> None:
        asked.append((statement, parameters))

    engine = store.database.engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        history(store, "smpp")
        providers.under_way(store, "smpp")
        providers.overdue(store, "smpp")
    finally:
        event.remove(engine, "before_cursor_execute", note)
    questions = [one for one in asked if one[0].startswith("SELECT")]
    assert len(questions) == 6
    with store.database.read() as transaction:
        connection = transaction.connection()
        if not store.database.sqlite:
            connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        explain = "EXPLAIN QUERY PLAN " if store.database.sqlite else "EXPLAIN "
        for statement, parameters in questions:
            rows = connection.exec_driver_sql(explain + statement, parameters).all()
            plan = "\n".join(str(column) for row in rows for column in row)
            assert "ix_send_attempt_provider" in plan or "ix_message_" in plan
            assert "SCAN send_attempt" not in plan
            assert "SCAN message" not in plan
            assert "ix_message_provider" not in plan  # has all that a provider ever had
            if "LIMIT" in statement:  # else all of them are read to find the last
                assert "TEMP B-TREE" not in plan
                assert "Sort" not in plan


def _take_many(store: Store) -> None:
    """Leave what a provider has taken before; let PostgreSQL know, as it does by itself."""
    taken = [queued_message(store) for _ in range(1000)]
    for one in taken:
        one.state, one.provider = MessageState.ACCEPTED, "smpp"
    with store.database.write() as transaction:
        transaction.add_all(taken)
        transaction.flush()
        if not store.database.sqlite:
            transaction.execute(text("ANALYZE"))


# Out of service


def test_a_drain_waits_until_nothing_is_under_way(own_store: Store) -> None:
    claims = [attempt(own_store, "smpp", None) for _ in range(2)]
    with ThreadPoolExecutor(1) as pool:
        drained = pool.submit(svi, "sms", "drain", "smpp")
        for claim in claims:
            with pytest.raises(TimeoutError):
                drained.result(0.7)
            outbox.finish(own_store, claim, Report(Result.ACCEPTED), 0)
        shown = drained.result(LONG)
    assert shown.exit_code == 0
    first, last = shown.output.splitlines()
    assert first.startswith("smpp est hors service depuis le ")
    assert last == "plus aucun message n'est en cours chez lui"


def test_a_drain_ends_when_nobody_settles_what_is_left(own_store: Store) -> None:
    """As with the only provider, when it refuses our account: nobody could ask it (D19)."""
    doubtful = attempt(own_store, "smpp", Result.UNCERTAIN)
    with ThreadPoolExecutor(1) as pool:
        drained = pool.submit(svi, "sms", "drain", "smpp")
        with pytest.raises(TimeoutError):  # a gateway still has time to
            drained.result(0.7)
        long_ago = own_store.clock() - providers.ROUNDS
        waiting = update(Message).where(Message.id == doubtful.message_id).values(next_at=long_ago)
        execute(own_store, lambda transaction: transaction.execute(waiting))
        shown = drained.result(LONG)
    assert shown.exit_code == 1
    assert "smpp est hors service, et 1 message(s) y restent de sort inconnu" in shown.output
    assert "provider_stopped" in shown.output
    assert set(providers.drained(own_store)) == {"smpp"}


def test_ctrl_c_leaves_it_drained(own_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    attempt(own_store, "smpp", Result.UNCERTAIN)

    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("svi.sms_providers.time.sleep", interrupted)
    shown = svi("sms", "drain", "smpp")
    assert shown.exit_code == 1
    assert shown.output.endswith(
        "Erreur : smpp reste hors service, avec 1 message(s) en cours ;"
        " pour l'y remettre : svi sms drain smpp --end\n"
    )
    assert set(providers.drained(own_store)) == {"smpp"}


def test_it_is_put_back_into_service(own_store: Store) -> None:
    assert svi("sms", "drain", "smpp").exit_code == 0
    assert svi("sms", "drain", "smpp", "--end").output == "smpp est de nouveau en service\n"
    assert svi("sms", "drain", "smpp", "--end").output == "smpp est déjà en service\n"
    assert providers.drained(own_store) == {}
    assert attempt(own_store, "smpp", None).number == 1


def test_the_audit_says_which_was_drained_and_restored(store: Store) -> None:
    """D16; on both databases. What was so already is no act."""
    for change in (providers.drain, providers.restore):
        change(store, "smpp")
        change(store, "smpp")
    told = select(AuditEntry.event, AuditEntry.channel, AuditEntry.actor).order_by(AuditEntry.id)
    with store.database.read() as transaction:
        assert [tuple(row) for row in transaction.execute(told)] == [
            ("provider-drained", "admin", "smpp"),
            ("provider-restored", "admin", "smpp"),
        ]


def test_an_unknown_provider_is_said_so(own_store: Store) -> None:
    shown = svi("sms", "drain", "smp")
    assert (shown.exit_code, providers.drained(own_store)) == (1, {})
    assert shown.output == (
        "Erreur : aucun fournisseur smp ; il y a twilio, smpp, smtp, file-sms, file-mail\n"
    )


def test_an_operator_has_the_name_in_its_file(
    own_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SVI_SMS_PROVIDERS", "http,twilio")
    monkeypatch.setenv("SVI_HTTP_PROVIDER", str(EXAMPLE))
    attempt(own_store, "operateur", Result.ACCEPTED)
    shown = [json.loads(row) for row in svi("sms", "providers", "--json").output.splitlines()]
    assert [row["name"] for row in shown] == ["operateur", "twilio"]
    assert shown[0]["last_hour"]["accepted"] == 1
    assert svi("sms", "drain", "operateur").exit_code == 0
    assert set(providers.drained(own_store)) == {"operateur"}


# Settings

ORDERS = {
    "neither": ({}, ["twilio"]),
    "an SMSC": ({"SVI_SMPP_HOST": "smsc"}, ["smpp"]),
    "an operator's file": ({"SVI_HTTP_PROVIDER": "operateur.toml"}, ["http"]),
    "an operator's file although there is an SMSC": (
        {"SVI_SMS_PROVIDERS": "http,smpp", "SVI_HTTP_PROVIDER": "f.toml", "SVI_SMPP_HOST": "smsc"},
        ["http", "smpp"],
    ),
    "both": ({"SVI_SMS_PROVIDERS": "smpp,twilio"}, ["smpp", "twilio"]),
    "the other way round": (
        {"SVI_SMS_PROVIDERS": "twilio, smpp", "SVI_SMPP_HOST": "smsc"},
        ["twilio", "smpp"],
    ),
    "Twilio although there is an SMSC": (
        {"SVI_SMS_PROVIDERS": "twilio", "SVI_SMPP_HOST": "smsc"},
        ["twilio"],
    ),
}


@pytest.mark.parametrize(("variables", "order"), ORDERS.values(), ids=ORDERS)
def test_the_order(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], order: list[str]
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert Settings().sms_order == order


SMPP = {"SVI_SMPP_HOST": "smsc"}
WRONG = {
    "unknown": ("smpp,orange", SMPP, "aucun fournisseur « orange » ; il y a smpp, http, twilio"),
    "twice": ("smpp,smpp", SMPP, "SVI_SMS_PROVIDERS : smpp y est deux fois"),
    "an empty name": ("smpp,", SMPP, "aucun fournisseur «  » ; il y a smpp, http, twilio"),
    "without its file": ("http", {}, "SVI_HTTP_PROVIDER : il faut le fichier qui décrit"),
    "without its SMSC": ("smpp", {}, "SVI_SMPP_HOST : il faut le centre SMS de smpp"),
    "Twilio without our address": (
        "twilio",
        {},
        "SVI_PUBLIC_URL : il faut l'adresse où Twilio nous joint",
    ),
}


@pytest.mark.parametrize(("names", "variables", "said"), WRONG.values(), ids=WRONG)
def test_a_wrong_order_refuses_the_start_on_one_line(
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    names: str,
    variables: dict[str, str],
    said: str,
) -> None:
    monkeypatch.setenv("SVI_SMS_PROVIDERS", names)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    refused = svi("gateway")
    assert refused.exit_code == 1
    assert refused.output.count("\n") == 1
    assert said in refused.output
    assert not (settings.home / "svi.db").exists()
