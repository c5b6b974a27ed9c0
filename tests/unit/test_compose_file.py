"""What docker-compose.yml must never let through, read as YAML; test_compose.py brings it up."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from svi.settings import Settings

REPOSITORY = Path(__file__).parents[2]
FILES = ("docker-compose.yml", "docker-compose.demo.yml")
COMPOSE: dict[str, Any] = yaml.safe_load((REPOSITORY / FILES[0]).read_text("utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]

EVERYWHERE = "0.0.0.0"  # noqa: S104 - inside a container
RTP = "${SVI_RTP_START:-10000}-${SVI_RTP_END:-10199}"
PUBLISHED = {
    "asterisk": [
        "${SVI_PUBLIC_ADDRESS:-127.0.0.1}:${SVI_SIP_PORT:-5060}:5060/udp",
        f"${{SVI_PUBLIC_ADDRESS:-127.0.0.1}}:{RTP}:{RTP}/udp",
    ],
    "gateway": [
        "127.0.0.1:${SVI_GATEWAY_PORT:-4580}:4580",
        "127.0.0.1:${SVI_API_PORT:-4581}:4581",
        "127.0.0.1:${SVI_METRICS_PORT:-4582}:4582",
    ],
}
NEVER_PUBLISHED = ("postgres", "schema", "voice")
ENDS = "schema"  # once its work is done; the others run on
SECRET_NAME = re.compile("PASSWORD|SECRET|TOKEN|KEY|ACCOUNT", re.IGNORECASE)
DAY_KEYS = "/var/lib/svi/day-keys"
CREDENTIAL_IN_URL = re.compile(r"://[^/@]*:[^/@]*@")


def test_only_sip_rtp_and_the_loopback_are_published() -> None:
    assert {name: s["ports"] for name, s in SERVICES.items() if "ports" in s} == PUBLISHED


def test_the_ports_published_are_those_that_the_gateway_listens_on() -> None:
    settings = Settings()
    inside = [int(port.rsplit(":", 1)[1]) for port in PUBLISHED["gateway"]]
    environment = SERVICES["gateway"]["environment"]
    metrics_port = int(environment["SVI_METRICS_PORT"])  # there are no metrics without it
    assert inside == [settings.gateway_port, settings.api_port, metrics_port]
    for listener in ("GATEWAY", "API", "METRICS"):
        assert environment[f"SVI_{listener}_HOST"] == EVERYWHERE
    assert not environment.keys() & {"SVI_GATEWAY_PORT", "SVI_API_PORT"}


@pytest.mark.parametrize("service", NEVER_PUBLISHED)
def test_what_authenticates_nobody_is_on_the_inner_network_alone(service: str) -> None:
    assert SERVICES[service]["networks"] == ["inner"]
    assert COMPOSE["networks"]["inner"] == {"internal": True}


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_can_do_the_least_and_says_how_it_feels(service: str) -> None:
    fields = SERVICES[service]
    if service == ENDS:
        assert fields["restart"] == "on-failure:5"
    else:
        assert fields["healthcheck"]["test"][0] == "CMD-SHELL"
        assert fields["restart"] == "unless-stopped"
    assert fields["read_only"] is True
    assert fields["cap_drop"] == ["ALL"]
    assert fields["security_opt"] == ["no-new-privileges"]
    assert not fields.keys() & {"privileged", "cap_add", "network_mode", "env_file", "user"}


@pytest.mark.parametrize("file", FILES)
def test_no_environment_holds_a_secret(file: str) -> None:
    """What is secret is a file: the environment gives its path."""
    services = yaml.safe_load((REPOSITORY / file).read_text("utf-8"))["services"]
    for service in services.values():
        for name, value in service.get("environment", {}).items():
            assert not SECRET_NAME.search(name) or value.startswith(("/run/secrets/", DAY_KEYS))
            assert not CREDENTIAL_IN_URL.search(value)


def test_every_secret_is_a_file_outside_the_images() -> None:
    used = {name for service in SERVICES.values() for name in service["secrets"]}
    assert used == COMPOSE["secrets"].keys()
    for name, secret in COMPOSE["secrets"].items():
        assert secret == {"file": f"${{SVI_SECRETS:-./secrets}}/{name}"}
    listed = (REPOSITORY / ".dockerignore").read_text("utf-8").split()
    assert "*" in listed
    assert "!secrets" not in listed


def test_only_what_ends_can_alter_the_audit() -> None:
    """The password of the database's owner is where nobody calls; the service has its own role."""
    holders = {name for name, service in SERVICES.items() if "owner" in service["secrets"]}
    assert holders == {"postgres", ENDS}
    for name in ("voice", "gateway"):
        assert "//svi@postgres/svi?" in SERVICES[name]["environment"]["SVI_DATABASE_URL"]


def test_who_seals_messages_and_who_sends_them_have_the_same_keys_of_the_day() -> None:
    """In a volume of its own: no backup of another one may hold it (D12)."""
    holders = {
        name
        for name, service in SERVICES.items()
        if f"day-keys:{DAY_KEYS}" in service.get("volumes", [])
    }
    assert holders == {"voice", "gateway"}
    assert "day-keys" in COMPOSE["volumes"]
    for name in holders:
        assert SERVICES[name]["environment"]["SVI_DAY_KEYS"] == DAY_KEYS


def test_services_wait_for_what_they_stand_on() -> None:
    awaited = {name: service.get("depends_on", {}) for name, service in SERVICES.items()}
    healthy = {"condition": "service_healthy"}
    ended = {"condition": "service_completed_successfully"}
    assert awaited == {
        "postgres": {},
        "schema": {"postgres": healthy},
        "voice": {"postgres": healthy, "schema": ended},
        "gateway": {"postgres": healthy, "schema": ended},
        "asterisk": {"voice": healthy},
    }


def test_asterisk_files_are_written_with_python_alone() -> None:
    """The image of Asterisk has no package of ours or of others."""
    program = f"import sys; sys.path.insert(0, {str(REPOSITORY)!r}); import ivr.asterisk"
    subprocess.run([sys.executable, "-I", "-S", "-c", program], check=True, timeout=30)
