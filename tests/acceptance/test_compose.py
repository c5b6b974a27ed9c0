"""docker-compose.yml brought up for real by podman: calls, what can be reached, what is left."""

import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ivr.script_files import load_script
from svi.demo import DOSSIERS
from tests.acceptance import tones, wire
from tests.acceptance.caller import (
    Call,
    Pause,
    Step,
    Type,
    WaitForEnd,
    reserved_ports,
    sipp_options,
    write_scenario,
)
from tests.acceptance.machine import CACHE, free_port, wait_until

REPOSITORY = Path(__file__).parents[2]
PROJECT = "svitest"
SERVICES = ("postgres", "voice", "gateway", "asterisk")  # besides `schema`, which ends
IMAGES = ("svi", "svi-asterisk", "svi-postgres")
PASSFILES = ("database", "owner")
FIRST = DOSSIERS[0]
PAYMENT = [  # 481,71 € on 5 November 2026 (D17)
    *["dernier-paiement", "nombre-4", "cent", "nombre-81", "euros", "et", "nombre-71", "centimes"],
    *["le", "nombre-5", "mois-11", "nombre-2", "mille", "nombre-26"],
]
RTP = range(21_000, 21_020)  # neither other tests' Asterisk nor their callers
BUILD_SECONDS = 900.0
HEALTHY_SECONDS = 120.0
COMMAND_SECONDS = 60.0

# Callers are elsewhere: a network of their own, with one link to this machine (RFC 5737 addresses).
LINK, PUBLIC, CALLER = "svi-caller", "198.51.100.1", "198.51.100.2"
AT_CALLER = ("ip", "netns", "exec", LINK)

# Its own store, kept: base images and layers take minutes to make. No systemd is needed.
STORAGE = f"""
[storage]
driver = "overlay"
graphroot = "{CACHE}/svi/podman"
runroot = "/run/svi-test-podman"
"""
ENGINE = """
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[network]
network_backend = "netavark"
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=4096:4096"]
"""

pytestmark = pytest.mark.timeout(2 * BUILD_SECONDS)


@dataclass(frozen=True)
class Compose:
    """The project, as an operator handles it."""

    environment: Mapping[str, str] = field(repr=False)
    secrets: Path
    sip_port: int
    gateway_port: int
    api_port: int
    metrics_port: int

    @property
    def http_ports(self) -> tuple[int, ...]:
        """What the gateway listens on."""
        return self.gateway_port, self.api_port, self.metrics_port

    def run(self, *command: str, seconds: float = COMMAND_SECONDS) -> str:
        """Run a command in the repository; give what it prints."""
        done = subprocess.run(
            command,
            cwd=REPOSITORY,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
        return done.stdout

    def compose(self, *command: str, seconds: float = COMMAND_SECONDS) -> str:
        """Run podman-compose on the files of the demonstration."""
        files = ("-f", "docker-compose.yml", "-f", "docker-compose.demo.yml")
        return self.run("podman-compose", "-p", PROJECT, *files, *command, seconds=seconds)

    def in_container(self, service: str, *command: str) -> str:
        """Run a command in a service's container."""
        return self.run("podman", "exec", _container(service), *command)

    def inspect(self, service: str, what: str) -> str:
        """Give a field of what podman knows of a service's container."""
        return self.run("podman", "inspect", "--format", what, _container(service)).strip()

    def pid(self, service: str) -> int:
        """Give the first process of a service, as this machine counts."""
        return int(self.inspect(service, "{{.State.Pid}}"))

    def healthy(self, service: str) -> bool:
        """Ask a service's own health check, as systemd would."""
        command = ["podman", "healthcheck", "run", _container(service)]
        done = subprocess.run(
            command,
            env=self.environment,
            capture_output=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        return done.returncode == 0

    def wait_healthy(self) -> None:
        """Wait for every service."""
        for service in SERVICES:
            wait_until(lambda: self.healthy(service), HEALTHY_SECONDS)  # noqa: B023

    def records(self) -> list[dict[str, Any]]:
        """Give the call records."""
        printed = self.in_container("voice", "svi", "calls", "--json")
        return [json.loads(line) for line in printed.splitlines()]

    def messages(self) -> list[dict[str, str]]:
        """Give the SMS that left the gateway."""
        script = "cat /var/lib/svi/sms.jsonl 2>/dev/null || true"
        printed = self.in_container("gateway", "sh", "-c", script)
        return [json.loads(line) for line in printed.splitlines()]

    def left(self) -> list[str]:
        """Give the containers, volumes and networks of the project that exist."""
        return [
            *self._of_project("ps", "-aq"),
            *self._of_project("volume", "ls", "-q"),
            *self._of_project("network", "ls", "-q"),
        ]

    def _of_project(self, *listing: str) -> list[str]:
        label = f"label=io.podman.compose.project={PROJECT}"
        return self.run("podman", *listing, "--filter", label).split()

    def down(self) -> None:
        """End the project and delete its data; podman-compose 1.0.3 forgets its networks."""
        self.compose("down", "-v", seconds=2 * COMMAND_SECONDS)
        for network in self._of_project("network", "ls", "-q"):
            self.run("podman", "network", "rm", network)


def _container(service: str) -> str:
    return f"{PROJECT}_{service}_1"


@pytest.fixture(scope="module")
def project(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Compose]:
    """The demonstration, built and up."""
    project = _make_project(tmp_path_factory.mktemp("compose"))
    with ExitStack() as stack:
        capture = request.config.pluginmanager.getplugin("capturemanager")
        with capture.global_and_fixture_disabled():
            _build(project)
        stack.enter_context(_caller_elsewhere())
        stack.callback(project.down)
        project.compose("up", "-d", seconds=2 * COMMAND_SECONDS)
        project.wait_healthy()
        yield project


def _make_project(folder: Path) -> Compose:
    """Choose its places and ports."""
    (folder / "storage.conf").write_text(STORAGE)
    (folder / "containers.conf").write_text(ENGINE)
    sip_port = free_port(socket.SOCK_DGRAM)
    gateway_port, api_port, metrics_port = (free_port(socket.SOCK_STREAM) for _ in range(3))
    settings = {
        "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
        "CONTAINERS_CONF": str(folder / "containers.conf"),
        "BUILDAH_ISOLATION": "chroot",
        "ENGINE": "podman",
        "SVI_SECRETS": str(folder / "secrets"),
        "SVI_PUBLIC_ADDRESS": PUBLIC,
        "SVI_TRUNK": CALLER,
        "SVI_SIP_PORT": str(sip_port),
        "SVI_RTP_START": str(RTP.start),
        "SVI_RTP_END": str(RTP.stop - 1),
        "SVI_GATEWAY_PORT": str(gateway_port),
        "SVI_API_PORT": str(api_port),
        "SVI_METRICS_PORT": str(metrics_port),
    }
    ports = (sip_port, gateway_port, api_port, metrics_port)
    return Compose(os.environ | settings, folder / "secrets", *ports)


@contextmanager
def _caller_elsewhere() -> Iterator[None]:
    """Make the network that calls come from."""

    def ip(*arguments: str) -> None:
        subprocess.run(["ip", *arguments], timeout=COMMAND_SECONDS, check=True)

    ip("netns", "add", LINK)
    try:
        ip("link", "add", LINK, "type", "veth", "peer", "name", "outside", "netns", LINK)
        ip("address", "add", f"{PUBLIC}/30", "dev", LINK)
        ip("link", "set", LINK, "up")
        ip("-n", LINK, "address", "add", f"{CALLER}/30", "dev", "outside")
        ip("-n", LINK, "link", "set", "outside", "up")
        ip("-n", LINK, "link", "set", "lo", "up")
        yield
    finally:
        ip("netns", "delete", LINK)


def _build(project: Compose) -> None:
    """Make base images, images and secrets, saying so: it takes minutes."""
    for step in (
        ["containers/bases.sh"],
        ["podman-compose", "-p", PROJECT, "build"],
        ["containers/secrets.sh"],
    ):
        print(f"\ncompose: {' '.join(step)}", flush=True)  # noqa: T201
        log = project.secrets.with_name("build.log")
        with log.open("ab") as out:
            subprocess.run(
                step,
                cwd=REPOSITORY,
                env=project.environment,
                stdout=out,
                stderr=out,
                timeout=BUILD_SECONDS,
                check=True,
            )


def place(project: Compose, *steps: Step) -> list[str]:
    """Place a real call from elsewhere to the published port; give what was heard."""
    prompts = sorted(load_script().catalogue.ids)
    call = Call(steps)
    with tempfile.TemporaryDirectory() as name, reserved_ports() as ports:
        folder = Path(name)
        write_scenario(folder, [call])
        options = [CALLER if o == "127.0.0.1" else o for o in sipp_options(ports, 1, 1, 1)]
        with wire.capture(folder / "call.pcap", ports.start, ports.stop - 1, LINK):
            subprocess.run(
                [*AT_CALLER, "sipp", f"{PUBLIC}:{project.sip_port}", *options],
                cwd=folder,
                capture_output=True,
                timeout=call.seconds + COMMAND_SECONDS,
                check=True,
            )
        datagrams = list(wire.read_pcap(folder / "call.pcap"))
    dialog = wire.dialogs(datagrams, ports.start + 1)[1]
    frames = wire.audio(datagrams, dialog.media_port)
    return [heard.prompt for heard in tones.decode(frames, prompts)]


def test_a_call_hears_the_last_payment(project: Compose) -> None:
    speak_in_tones(project)
    keys = FIRST.department + FIRST.number + FIRST.password + "1"
    heard = place(project, Pause(1), Type(keys), WaitForEnd(15))
    assert "dernier-paiement" in heard
    begin = heard.index("dernier-paiement")
    assert heard[begin : begin + len(PAYMENT)] == PAYMENT
    wait_until(lambda: len(project.records()) == 1)
    [record] = project.records()
    assert record["outcome"] == "authenticated"
    assert project.messages() == []


def speak_in_tones(project: Compose) -> None:
    """Put tones in the place of the prompts that the voice server made."""
    volume = ("podman", "volume", "inspect", f"{PROJECT}_prompts")
    folder = Path(project.run(*volume, "--format", "{{.Mountpoint}}").strip())
    made = {path.stem for path in folder.glob("*.wav")}
    catalogue = load_script().catalogue.ids
    assert made > set(catalogue)
    tones.write_voice(folder, catalogue)


def test_a_forgotten_password_reaches_the_gateway(project: Compose) -> None:
    typed = FIRST.department + FIRST.number
    heard = place(
        project,
        *(Pause(1), Type(typed), Pause(1), Type("#"), Pause(1), Type("1")),
        Pause(5),
    )
    assert "oubli-demande" in heard
    wait_until(lambda: len(project.messages()) == 1)
    [message] = project.messages()
    assert re.search(r"\b\d{4} \d{4}\b", message["text"])  # D14


def test_voice_server_and_gateway_have_the_same_keys_of_the_day(project: Compose) -> None:
    """D12: what one seals the other opens, with a key in no other volume."""
    ls = ("ls", "-l", "/var/lib/svi/day-keys")
    listed = project.in_container("voice", *ls)
    assert re.search(r"-rw------- 1 svi svi +44 .* \d{4}-\d\d-\d\d$", listed, re.MULTILINE)
    assert project.in_container("gateway", *ls) == listed


def test_asterisk_shows_its_calls_to_the_voice_server(project: Compose) -> None:
    assert project.in_container("voice", "svi", "calls", "--live") == "rien\n"


def test_a_web_stack_of_this_machine_reaches_the_api(project: Compose) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"http://127.0.0.1:{project.api_port}/v1/changes", timeout=10)
    with closing(refused.value) as answer:
        assert answer.status == 401


def test_a_prometheus_of_this_machine_reads_the_metrics(project: Compose) -> None:
    url = f"http://127.0.0.1:{project.metrics_port}/metrics"
    with urllib.request.urlopen(url, timeout=10) as answer:
        assert b"svi_database_up 1.0" in answer.read()


def test_nothing_listens_but_sip_rtp_and_the_gateway(project: Compose) -> None:
    published = {f"udp {PUBLIC}:{port}" for port in (project.sip_port, *RTP)}
    published |= {f"tcp 127.0.0.1:{port}" for port in project.http_ports}
    keepers = {
        Path(project.inspect(service, "{{.ConmonPidFile}}")).read_text() for service in SERVICES
    }
    listening = set()
    for line in project.run("ss", "-Hlntup").splitlines():
        kind, _, _, _, address, *_ = line.split()
        if keepers & set(re.findall(r"pid=(\d+)", line)):
            listening.add(f"{kind} {address}")
    assert listening == published


def test_no_secret_shows(project: Compose) -> None:
    """Neither in what podman knows, nor in environments, arguments, images or logs."""
    shown = [
        *(project.run("podman", "inspect", _container(service)) for service in SERVICES),
        *(project.run("podman", "logs", _container(service)) for service in SERVICES),
        *(project.run("podman", "inspect", image) for image in IMAGES),
        *(project.run("podman", "history", "--no-trunc", image) for image in IMAGES),
    ]
    for service in SERVICES:
        process = Path(f"/proc/{project.pid(service)}")
        shown += [(process / file).read_text() for file in ("environ", "cmdline")]
    for secret in secrets_of(project):
        assert not [text for text in shown if secret in text]


def _lines(file: Path) -> list[str]:
    return file.read_text().splitlines()


def secrets_of(project: Compose) -> list[str]:
    """Give every secret made for the project."""
    keys = json.loads((project.secrets / "keys").read_text())
    return [
        *(line.rpartition(":")[2] for file in PASSFILES for line in _lines(project.secrets / file)),
        json.loads((project.secrets / "ami").read_text())["secret"],
        *(keys["sealing"].values()),
        keys["indexing"],
        keys["pseudonyms"],
    ]


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_can_do_the_least(project: Compose, service: str) -> None:
    """No root, no capability, no way to gain any, nothing of its image to write on."""
    status = Path(f"/proc/{project.pid(service)}/status").read_text()
    assert re.search(r"^Uid:\s+10001\s+10001", status, re.MULTILINE)
    assert re.search(r"^CapEff:\s+0+$", status, re.MULTILINE)
    assert re.search(r"^CapBnd:\s+0+$", status, re.MULTILINE)
    assert re.search(r"^NoNewPrivs:\s+1$", status, re.MULTILINE)
    assert project.inspect(service, "{{.HostConfig.ReadonlyRootfs}}") == "true"


SERVICE_URL = "postgresql+psycopg://svi@postgres/svi?passfile=/run/secrets/database"
ROLE_PROGRAM = """
import sys, sqlalchemy
with sqlalchemy.create_engine(sys.argv[1]).begin() as connection:
    print(connection.execute(sqlalchemy.text(sys.argv[2])).rowcount)
"""


def test_the_service_appends_to_the_audit_and_alters_nothing(project: Compose) -> None:
    run = ("python3", "-c", ROLE_PROGRAM, SERVICE_URL)
    assert int(project.in_container("voice", *run, "SELECT * FROM audit")) > 0
    for statement in ("UPDATE audit SET event = 'login'", "DELETE FROM audit", "DROP TABLE audit"):
        with pytest.raises(AssertionError, match="InsufficientPrivilege"):
            project.in_container("voice", *run, statement)


def test_the_owner_gives_rights_again_and_another_role_purges(project: Compose) -> None:
    """As docs/deployment.md has an operator do it."""
    run = ("run", "--rm", "-T", "--no-deps")
    assert "ont leurs droits" in project.compose(*run, "schema", "svi", "db", "grant")
    purger = ("-e", "SVI_DATABASE_URL=postgresql+psycopg://svi_purge@postgres/svi", "schema")
    assert "0 lignes effacées" in project.compose(*run, *purger, "svi", "audit", "purge")


def test_data_and_rights_outlive_down_and_up(project: Compose) -> None:
    before = project.records()
    project.compose("down", seconds=2 * COMMAND_SECONDS)
    project.compose("up", "-d", seconds=2 * COMMAND_SECONDS)
    project.wait_healthy()
    assert project.records() == before != []
    ended = "{{.State.Status}} {{.State.ExitCode}}"
    wait_until(lambda: project.inspect("schema", ended) == "exited 0")


def test_a_service_that_dies_comes_back(project: Compose) -> None:
    os.kill(project.pid("voice"), signal.SIGKILL)
    wait_until(lambda: int(project.inspect("voice", "{{.RestartCount}}")) == 1)
    project.wait_healthy()


def test_down_leaves_nothing(project: Compose) -> None:
    """The last test of the file: it ends the project."""
    assert project.left()
    project.down()
    assert project.left() == []
