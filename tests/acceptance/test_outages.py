"""What callers hear when a part of the service is gone, and how it comes back (design idea 10)."""

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import pytest

from ivr.ami import AmiLink
from shared.secret import Secret
from tests.acceptance.caller import HangUp, Pause, Type, WaitForEnd
from tests.acceptance.conftest import AMI_SECRET, Service, running_service
from tests.acceptance.machine import READY_SECONDS, wait_until
from tests.telephony import records


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that these tests may break."""
    with running_service(tmp_path_factory.mktemp("outages")) as service:
        yield service


def test_calls_end_with_asterisk_and_come_again_with_it(service: Service) -> None:
    with ThreadPoolExecutor(1) as pool:
        calling = pool.submit(service.call, Type("9"), WaitForEnd(3))
        wait_until(lambda: service.voice.calls_in_progress == 1)
        service.asterisk.stop()
        wait_until(lambda: service.voice.calls_in_progress == 0)
        assert [record.outcome for record in records(service.store)] == ["abandoned"]
        service.asterisk.start()
        service.asterisk.wait_ready(READY_SECONDS)
        calling.result()
    result = service.call(Pause(1), HangUp())
    assert result.heard == ["accueil", "departement"]
    wait_until(lambda: len(records(service.store)) == 2)


def test_a_call_is_taken_to_the_apology_in_mid_prompt(service: Service) -> None:
    """As `svi up` does when it stops: nobody waits for the end of a prompt."""
    port = service.settings.ami_port
    with (
        ThreadPoolExecutor(1) as pool,
        AmiLink("127.0.0.1", port, "svi", Secret(AMI_SECRET)) as ami,
    ):
        calling = pool.submit(service.call, WaitForEnd(8))
        wait_until(lambda: service.voice.calls_in_progress == 1)
        ami.wait_up(READY_SECONDS)
        [call] = ami.calls()
        assert ami.apologise(call.channel)
        result = calling.result()
    assert result.heard[-1] == "excuse-technique"
    assert result.ended_by == "asterisk"
    assert "departement-2" not in result.heard


@contextmanager
def dying_voice_server(address: tuple[str, int], command: bytes) -> Iterator[None]:
    """Runs one that sends this command for each call, and dies as soon as it is answered."""

    def serve() -> None:
        with suppress(OSError):  # the listener is closed: the test is over
            while True:
                connection, _ = listener.accept()
                with connection, connection.makefile("rb") as answers:
                    while answers.readline() != b"\n":
                        pass  # what Asterisk tells of the call
                    if command:
                        connection.sendall(command)
                        answers.readline()

    with socket.create_server(address) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.fixture(scope="module")
def without_voice_server(service: Service) -> Service:
    """The same service once its voice server has stopped for good."""
    service.voice.stop(0)
    return service


def test_a_caller_hears_an_apology_when_no_voice_server_listens(
    without_voice_server: Service,
) -> None:
    result = without_voice_server.call(WaitForEnd(8))
    assert result.heard == ["excuse-technique"]
    assert result.ended_by == "asterisk"


@pytest.mark.parametrize(
    ("command", "heard"),
    [
        (b"", ["excuse-technique"]),
        (b'EXEC Background "svi/accueil"\n', ["accueil", "excuse-technique"]),
    ],
    ids=["at once", "in mid-call"],
)
def test_a_caller_hears_an_apology_when_the_voice_server_dies(
    without_voice_server: Service, command: bytes, heard: list[str]
) -> None:
    host, port = without_voice_server.settings.agi_address.split(":")
    with dying_voice_server((host, int(port)), command):
        result = without_voice_server.call(WaitForEnd(8))
    assert result.heard == heard
    assert result.ended_by == "asterisk"
