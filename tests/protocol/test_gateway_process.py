"""`svi gateway` as a supervisor runs it: a process of its own, probed, used and stopped."""

import asyncio
import hmac
import json
import os
import re
import resource
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlencode
from uuid import UUID

import aiohttp
import pytest
from aiohttp import web
from twilio.request_validator import RequestValidator

from shared import campaigns, opt_outs, recovery
from shared.apikeys import Scope
from shared.client import ApiError, StoreClient
from shared.contacts import Contact
from shared.models import CampaignState, MessageState, Route
from shared.recovery import Claim
from shared.rules import DEFAULT_FILE as RULES
from shared.secret import Secret
from shared.store import Store
from sms.callbacks import FORM
from sms.templates import DEFAULT_FILE
from svi.service import open_store, prepare_home
from svi.settings import Settings
from tests.api import new_key
from tests.campaigns import mobiles
from tests.gateway import IN_GROUPS, LONG, MOBILE, PASSWORD, attempts, message, queue, until
from tests.mail_server import AWAY, USER, mail_server
from tests.mail_server import PASSWORD as MAIL_PASSWORD
from tests.operators import EXAMPLE, fake_operator
from tests.peers.fake_twilio import ACCOUNT_SID, fake_twilio
from tests.web import CLAIRE, HOLDER, MAIL, add_dossier
from tests.web import web as on_the_web

SVI = str(Path(sys.executable).with_name("svi"))
TOKEN = Secret("0123456789abcdef0123456789abcdef")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """An installation whose Twilio and mail server are out of reach."""
    account = tmp_path / "twilio.json"
    account.write_text(json.dumps({"account_sid": f"AC{1:032}", "auth_token": TOKEN.reveal()}))
    account.chmod(0o600)
    changes = {
        "SVI_HOME": str(tmp_path),
        "SVI_GATEWAY_PORT": str(free_port()),
        "SVI_API_PORT": str(free_port()),
        "SVI_PUBLIC_URL": "https://sms.exemple.fr",
        "SVI_TWILIO_ACCOUNT": str(account),
        "SVI_TWILIO_URL": f"http://127.0.0.1:{free_port()}",
    } | AWAY
    for name, value in changes.items():
        monkeypatch.setenv(name, value)
    return os.environ | changes


@pytest.fixture
def store(environment: dict[str, str]) -> Iterator[Store]:
    prepare_home(Settings())
    with open_store(Settings()) as store:
        yield store


@contextmanager
def gateway(environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [SVI, "gateway"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def ready(environment: dict[str, str]) -> bool:
    try:
        url = f"http://127.0.0.1:{environment['SVI_GATEWAY_PORT']}/readyz"
        with urllib.request.urlopen(url, timeout=LONG) as answer:
            return bool(answer.status == 200)
    except urllib.error.URLError:
        return False


async def test_it_works_until_it_is_told_to_stop(environment: dict[str, str], store: Store) -> None:
    """A provider out of reach is no fault of ours: the message waits."""
    queued = queue(store)
    with gateway(environment) as process:
        await until(lambda: ready(environment))
        await until(lambda: message(store, queued).failures)
        process.terminate()
        out, err = process.communicate(timeout=LONG)
    assert (process.returncode, out, err) == (0, "ready\n", "")
    assert message(store, queued).state == MessageState.QUEUED
    assert {attempt.code for attempt in attempts(store, queued)} == {"unreachable"}
    log = (Settings().logs / "gateway.log").read_text()
    assert "message_attempted" in log
    for personal in (MOBILE, MOBILE[3:], PASSWORD, IN_GROUPS, TOKEN.reveal()):
        assert personal not in log


async def test_it_may_open_as_many_files_as_the_machine_allows(
    environment: dict[str, str], store: Store
) -> None:
    """Every connection takes one, and systemd lets a service have 1024 unless it asks for more."""
    soft, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most // 2, most))
    try:
        with gateway(environment) as process:
            await until(lambda: ready(environment))
            assert resource.prlimit(process.pid, resource.RLIMIT_NOFILE) == (most, most)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, most))


async def test_metrics_are_on_a_port_of_their_own(
    environment: dict[str, str], store: Store
) -> None:
    port = str(free_port())
    with gateway(environment | {"SVI_METRICS_PORT": port}) as process:
        await until(lambda: ready(environment), 20)
        assert "svi_database_up 1.0" in metrics(port)
        assert 'svi_dispatcher_working{provider="twilio",route="sms"} 1.0' in metrics(port)
        for public in ("SVI_GATEWAY_PORT", "SVI_API_PORT"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                metrics(environment[public])
        process.terminate()
        assert await ended(process) == ("ready\n", "")


def metrics(port: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        return str(answer.read().decode())


async def test_alone_it_makes_its_own_home(environment: dict[str, str], tmp_path: Path) -> None:
    home = tmp_path / "new"
    with gateway(environment | {"SVI_HOME": str(home)}) as process:
        await until(lambda: ready(environment))
        process.terminate()
        assert await ended(process) == ("ready\n", "")
    assert process.returncode == 0
    assert {"keys.json", "logs", "svi.db"} <= {path.name for path in home.iterdir()}


def test_a_port_in_use_refuses_the_start_on_one_line(
    environment: dict[str, str], store: Store
) -> None:
    with (
        socket.create_server(("127.0.0.1", int(environment["SVI_GATEWAY_PORT"]))),
        gateway(environment) as process,
    ):
        out, err = process.communicate(timeout=LONG)
    assert (process.returncode, out) == (1, "")
    assert err.count("\n") == 1
    assert "address already in use" in err


async def test_what_went_out_is_left_nowhere(environment: dict[str, str], store: Store) -> None:
    """D12, D16: no file, log, argument or variable of the process holds it."""
    async with fake_twilio() as fake:
        reach = environment | {"SVI_TWILIO_URL": fake.url}
        with gateway(reach) as process:
            queued = queue(store)
            await until(lambda: message(store, queued).state == MessageState.ACCEPTED)
            folder = Path("/proc", str(process.pid))
            around = [(folder / name).read_bytes() for name in ("cmdline", "environ")]
            process.terminate()
            around += [text.encode() for text in await ended(process)]
    [sent], [taken] = fake.asked, fake.taken
    assert IN_GROUPS in sent["Body"]
    secret_files = {Path(environment["SVI_TWILIO_ACCOUNT"]), Settings().keys}
    files = {path for path in Settings().home.rglob("*") if path.is_file()} - secret_files
    written = b"".join(path.read_bytes() for path in sorted(files))
    assert {"svi.db", "svi.db-wal", "gateway.log"} <= {path.name for path in files}
    assert taken["sid"].encode() in written  # the search does find things
    for personal in (PASSWORD, IN_GROUPS, MOBILE[3:], TOKEN.reveal()):
        assert personal.encode() not in b"".join([written, *around])


async def test_mails_leave_by_their_own_server(
    environment: dict[str, str], store: Store, tmp_path: Path
) -> None:
    """R13, R15: beside the SMS, whose provider is out of reach; D12: left nowhere."""
    account = tmp_path / "smtp.json"
    account.write_text(json.dumps({"user": USER, "password": MAIL_PASSWORD}))
    account.chmod(0o600)
    add_dossier(store)
    async with mail_server(closed=True) as server:
        reach = {"SVI_SMTP_PORT": str(server.port), "SVI_SMTP_ACCOUNT": str(account)}
        with gateway(environment | reach) as process:
            queued = queue(store)
            recovery.request(store, Claim(HOLDER, "Lefèvre", Route.MAIL), on_the_web())
            await until(lambda: server.taken and message(store, queued).failures)
            await until(lambda: ready(environment), 20)
            process.terminate()
            out, err = await ended(process)
    assert (process.returncode, out, err) == (0, "ready\n", "")
    [taken] = server.taken
    assert (taken.sender, taken.recipients) == (AWAY["SVI_SMTP_SENDER"], [MAIL])
    [code] = re.findall(r"\d{3} \d{3}", taken.text)
    log = (Settings().logs / "gateway.log").read_text()
    assert '"result": "accepted"' in log
    for personal in (code, code.replace(" ", ""), MAIL, MAIL_PASSWORD, CLAIRE.surname or ""):
        assert personal not in log


async def test_sms_leave_by_an_operator_that_a_file_describes(
    environment: dict[str, str], store: Store, tmp_path: Path
) -> None:
    """Its receipts come by the public listener; its codes are labels; D12: left nowhere."""
    taken: list[dict[str, str]] = []

    async def take_the_second(request: web.Request) -> web.StreamResponse:
        taken.append(await request.json())
        if len(taken) == 1:
            return web.json_response({"error": {"code": "blacklisted"}}, status=400)
        return web.json_response({"id": "m1"}, status=201)

    metrics_port = str(free_port())
    secrets = tmp_path / "operateur.json"
    secrets.write_text(json.dumps({"api_key": "k3y", "receipt_key": "s1gning"}))
    secrets.chmod(0o600)
    async with fake_operator(take_the_second) as fake:
        file = tmp_path / "operateur.toml"
        text = EXAMPLE.read_text("utf-8").replace("https://api.operateur.example", fake.url)
        file.write_text(text, "utf-8")
        reach = {"SVI_HTTP_PROVIDER": str(file), "SVI_METRICS_PORT": metrics_port}
        with gateway(environment | reach) as process:
            await until(lambda: ready(environment))
            refused = queue(store)
            await until(lambda: message(store, refused).state == MessageState.REFUSED)
            queued = queue(store)
            await until(lambda: message(store, queued).state == MessageState.ACCEPTED)
            assert await told_delivered(environment, taken[1]) == 200
            assert 'code="blacklisted",provider="operateur"' in await asyncio.to_thread(
                metrics, metrics_port
            )
            process.terminate()
            assert await ended(process) == ("ready\n", "")
    settled = message(store, queued)
    assert (settled.state, settled.provider) == (MessageState.DELIVERED, "operateur")
    log = (Settings().logs / "gateway.log").read_text()
    assert "receipt_kept" in log
    for personal in (MOBILE[3:], PASSWORD, IN_GROUPS, "k3y", "s1gning"):
        assert personal not in log


async def told_delivered(environment: dict[str, str], sent: dict[str, str]) -> int:
    """Post a receipt where the operator was told to, as its file says."""
    told = {"id": "m1", "reference": sent["reference"], "status": "DELIVERED"}
    body = json.dumps(told).encode()
    path = sent["callback"].removeprefix(environment["SVI_PUBLIC_URL"])
    headers = {
        "Content-Type": "application/json",
        "X-Signature": "sha256=" + hmac.new(b"s1gning", body, "sha256").hexdigest(),
    }
    url = f"http://127.0.0.1:{environment['SVI_GATEWAY_PORT']}{path}"
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, data=body, headers=headers) as answer,
    ):
        return answer.status


def test_an_operator_s_file_that_is_wrong_refuses_the_start_on_one_line(
    environment: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "operateur.toml"
    file.write_text(EXAMPLE.read_text("utf-8").replace('id = "/id" ', 'id = "id" '), "utf-8")
    with gateway(environment | {"SVI_HTTP_PROVIDER": str(file)}) as process:
        out, err = process.communicate(timeout=LONG)
    assert (process.returncode, out) == (1, "")
    assert err.count("\n") == 1
    assert f"{file}: answer.id: valeur impossible" in err


async def test_without_a_mail_server_it_says_so_once(
    environment: dict[str, str], store: Store
) -> None:
    with gateway(environment | {"SVI_SMTP_HOST": ""}) as process:
        await until(lambda: ready(environment), 20)
        process.terminate()
        out, err = await ended(process)
    assert (process.returncode, out) == (0, "ready\n")
    [warning] = [json.loads(line) for line in err.splitlines()]
    assert (warning["event"], warning["missing"]) == ("mails_wait_and_expire", "SVI_SMTP_HOST")


OWN = """\
[notice.guichet]
sender = "CafAgenda"
text = "Au guichet {n}"
variables = { n = "99" }
"""


async def test_a_client_has_a_message_of_the_installation_s_own_sent(
    environment: dict[str, str], store: Store, tmp_path: Path
) -> None:
    """The API knows the templates that the dispatcher fills, and no others."""
    ours = DEFAULT_FILE.read_text("utf-8")
    texts = tmp_path / "templates.toml"
    texts.write_text(ours[: ours.index("[notice.")] + OWN, "utf-8")
    url = f"http://127.0.0.1:{environment['SVI_API_PORT']}"
    client = StoreClient(url, new_key(store, "agenda", Scope.MESSAGES))
    async with fake_twilio() as fake:
        reach = {"SVI_TWILIO_URL": fake.url, "SVI_TEMPLATES": str(texts)}
        with gateway(environment | reach) as process:
            await until(lambda: ready(environment), 20)
            with pytest.raises(ApiError) as caught:
                await asyncio.to_thread(
                    client.send_message, "notice.message-a-lire", MOBILE, {}, 60
                )
            sent = await asyncio.to_thread(
                client.send_message, "notice.guichet", MOBILE, {"n": "7"}, 60
            )
            await until(lambda: message(store, UUID(sent)).state == MessageState.ACCEPTED, 20)
            process.terminate()
            await ended(process)
    assert caught.value.reasons == ("unknown",)
    [asked] = fake.asked
    assert (asked["From"], asked["To"], asked["Body"]) == ("CafAgenda", MOBILE, "Au guichet 7")


async def test_a_stop_is_answered_by_the_number_of_the_installation_s_own(
    environment: dict[str, str], store: Store, tmp_path: Path
) -> None:
    """R24, D14: from Twilio's webhook to the reply that Twilio takes."""
    texts = tmp_path / "templates.toml"
    ours = DEFAULT_FILE.read_text("utf-8")
    texts.write_text(ours.replace("[inbound.36180]", "[inbound.33757590000]"), "utf-8")
    form = {
        "AccountSid": ACCOUNT_SID,
        "Body": "stop svp",
        "From": MOBILE,
        "MessageSid": "SM" + 32 * "a",
        "To": "+33757590000",
    }
    async with fake_twilio() as fake:
        reach = {"SVI_TWILIO_URL": fake.url, "SVI_TEMPLATES": str(texts)}
        with gateway(environment | reach) as process:
            await until(lambda: ready(environment), 20)
            for _ in range(2):
                assert await asyncio.to_thread(told, environment, form) == 200
            await until(lambda: fake.asked, 20)
            process.terminate()
            assert await ended(process) == ("ready\n", "")
    [asked] = fake.asked
    assert (asked["From"], asked["To"]) == ("+33757590000", MOBILE)
    assert "vous ne recevrez plus" in asked["Body"]
    with store.database.read() as transaction:
        assert opt_outs.find(store, transaction, Contact(Route.SMS, MOBILE)) is not None


def told(environment: dict[str, str], form: dict[str, str]) -> int:
    """Tell the gateway what somebody wrote, signed as Twilio does."""
    signer = RequestValidator(TOKEN.reveal())
    signature = signer.compute_signature("https://sms.exemple.fr/twilio/inbound", form)
    headers = {"Content-Type": FORM, "X-Twilio-Signature": signature}
    port = int(environment["SVI_GATEWAY_PORT"])
    with closing(HTTPConnection("127.0.0.1", port, timeout=LONG)) as connection:
        connection.request("POST", "/twilio/inbound", urlencode(form), headers)
        return connection.getresponse().status


async def test_a_client_s_campaign_goes_out(
    environment: dict[str, str], store: Store, tmp_path: Path
) -> None:
    """R24: fed by the gateway itself; the text goes out as it is, by its own sender."""
    rules = tmp_path / "rules.toml"
    at_any_hour = RULES.read_text("utf-8").replace("= 08:00:00 #", "= 00:00:00 #")
    rules.write_text(at_any_hour.replace("= 21:30:00 #", "= 23:59:59.999999 #"), "utf-8")
    key = new_key(store, "site-web", Scope.CAMPAIGNS, Scope.CAMPAIGN_TEXTS)
    client = StoreClient(f"http://127.0.0.1:{environment['SVI_API_PORT']}", key)
    async with fake_twilio() as fake:
        changed = {"SVI_TWILIO_URL": fake.url, "SVI_RULES": str(rules)}
        with gateway(environment | changed) as process:
            await until(lambda: ready(environment))
            campaign = await asyncio.to_thread(
                client.create_campaign, "rentree", "sms", text="Bonjour", sender="Caf"
            )
            everybody = [{"to": number} for number in mobiles(3)]
            await asyncio.to_thread(client.add_recipients, campaign, everybody)
            await asyncio.to_thread(client.move_campaign, campaign, "start")
            await until(lambda: campaigns.every(store)[0].state == CampaignState.ENDED)
            process.terminate()
            await ended(process)
    assert sorted(asked["To"] for asked in fake.asked) == mobiles(3)
    assert {(asked["From"], asked["Body"]) for asked in fake.asked} == {("Caf", "Bonjour")}


async def test_a_full_disk_loses_nothing_and_sends_nothing_twice(
    environment: dict[str, str], store: Store
) -> None:
    """It fills between Twilio's yes and our keeping it; the gateway goes on when there is room."""
    async with fake_twilio() as fake:
        by_sms_alone = {"SVI_TWILIO_URL": fake.url, "SVI_SMTP_HOST": ""}
        with gateway(environment | by_sms_alone) as process:

            async def take_and_fill_the_disk(request: web.Request) -> web.StreamResponse:
                fake.temper = None
                let_files_grow(process, 0)
                return web.json_response(fake.take(fake.asked[-1]), status=201)

            fake.temper = take_and_fill_the_disk
            await until(lambda: ready(environment))
            first = queue(store)
            await until(lambda: not ready(environment))
            second = queue(store)
            await asyncio.sleep(1)
            assert [message(store, one).state for one in (first, second)] == [
                MessageState.SENDING,
                MessageState.QUEUED,
            ]
            let_files_grow(process, resource.RLIM_INFINITY)
            for queued in (first, second):
                await until(lambda: message(store, queued).state == MessageState.ACCEPTED)  # noqa: B023
            await until(lambda: ready(environment))
            process.terminate()
            _, err = await ended(process)
    assert len(fake.asked) == 2
    warnings = [json.loads(line) for line in err.splitlines()]
    events = ["mails_wait_and_expire", "store_away", "store_back"]
    assert [line["event"] for line in warnings] == events
    assert all(line in (Settings().logs / "gateway.log").read_text() for line in err.splitlines())


def let_files_grow(process: subprocess.Popen[str], most: int) -> None:
    """Let no file that a process writes grow beyond a size: as a full disk would."""
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))


async def ended(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Wait for the end of a process, while others in the loop go on; give what it printed."""
    return await asyncio.to_thread(process.communicate, timeout=LONG)
