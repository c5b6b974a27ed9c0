"""What passed between a caller and Asterisk, read from the wire: SIP, RTP audio and RTP keys."""

import re
import signal
import struct
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.acceptance.tones import FRAME, SILENCE, Frame

PCMA = 8  # RTP payload type of A-law (RFC 3551)
TELEPHONE_EVENT = 96  # ours for keys (RFC 4733): SIPp sends no other
KEYS = "0123456789*#"  # RFC 4733 events 0 to 11

_RTP_HEADER = 12
_ETHERNET_HEADER = 14
_UDP_HEADER = 8
_PCAP_HEADER = 24
_PCAP_RECORD = struct.Struct("<IIII")  # seconds, microseconds, bytes kept, bytes seen
_CALL_ID = re.compile(rb"^Call-ID: *(\d+)-", re.MULTILINE | re.IGNORECASE)
_AUDIO_PORT = re.compile(rb"^m=audio (\d+) ", re.MULTILINE)
_FINAL_ANSWER = re.compile(rb"SIP/2\.0 ([2-6]\d\d) ")


class CaptureError(Exception):
    """The wire could not be recorded whole, so nothing can be proved from it."""


@dataclass(frozen=True)
class Datagram:
    """One UDP datagram: when it passed (seconds since the epoch), its ports and payload."""

    at: float
    source: int
    destination: int
    payload: bytes


@dataclass
class Dialog:
    """One SIP call as its messages tell it; times in seconds since the epoch, 0 if never."""

    media_port: int = 0
    status: int = 0
    answered_at: float = 0.0
    ended_at: float = 0.0
    ended_by: Literal["caller", "asterisk", "nobody"] = "nobody"


@contextmanager
def capture(pcap: Path, first_port: int, last_port: int, interface: str = "lo") -> Iterator[None]:
    """Records an Ethernet-like interface's UDP between these ports while the body runs.

    Raises CaptureError when tcpdump does not start or lost packets.
    """
    report = pcap.with_suffix(".log")
    command = [
        *("setpriv", "--pdeathsig", "KILL", "tcpdump", "-i", interface, "-Z", "root", "-n"),
        # Every packet takes as much of the buffer as the longest may: 8,192 packets of 4 KiB.
        *("--immediate-mode", "-U", "-s", "4096", "-B", "32768", "-w", str(pcap)),
        f"udp portrange {first_port}-{last_port}",
    ]
    with report.open("wb") as errors, subprocess.Popen(command, stderr=errors) as tcpdump:
        try:
            _wait_for(tcpdump, report)
            yield
            time.sleep(0.2)  # what has passed reaches the file
            tcpdump.send_signal(signal.SIGINT)
            tcpdump.wait(timeout=10)
        finally:
            tcpdump.kill()
    if not re.search(r"^0 packets dropped by kernel", report.read_text(), re.MULTILINE):
        raise CaptureError(f"tcpdump lost packets: {report.read_text()}")


def read_pcap(pcap: Path) -> Iterator[Datagram]:
    """The UDP datagrams of a little-endian, microsecond pcap file of IPv4 over Ethernet."""
    content = pcap.read_bytes()
    position = _PCAP_HEADER
    while position < len(content):
        seconds, microseconds, kept, _ = _PCAP_RECORD.unpack_from(content, position)
        position += _PCAP_RECORD.size
        packet = content[position + _ETHERNET_HEADER : position + kept]
        position += kept
        udp = packet[(packet[0] & 0x0F) * 4 :]
        source, destination = struct.unpack_from(">HH", udp)
        at = seconds + microseconds / 1e6
        yield Datagram(at, source, destination, udp[_UDP_HEADER:])


def dialogs(datagrams: Sequence[Datagram], sip_port: int) -> dict[int, Dialog]:
    """The SIP calls that the caller at `sip_port` made, by SIPp's number of the call (from 1)."""
    calls: dict[int, Dialog] = defaultdict(Dialog)
    for datagram in datagrams:
        call_id = _CALL_ID.search(datagram.payload)
        if call_id and sip_port in (datagram.source, datagram.destination):
            _follow(calls[int(call_id[1])], datagram, by_caller=datagram.source == sip_port)
    return dict(calls)


def audio(datagrams: Sequence[Datagram], media_port: int) -> list[Frame]:
    """The A-law frames sent to a media port, in RTP order; what is missing is silence."""
    packets = _in_order(
        [
            datagram
            for datagram in datagrams
            if datagram.destination == media_port and _payload_type(datagram) == PCMA
        ]
    )
    frames: list[Frame] = []
    expected = _sequence(packets[0]) if packets else 0
    for packet in packets:
        lost = (_sequence(packet) - expected) % 0x10000
        frames += [Frame(packet.at, SILENCE)] * lost
        frames.append(Frame(packet.at, packet.payload[_RTP_HEADER:].ljust(FRAME, SILENCE[:1])))
        expected = _sequence(packet) + 1
    return frames


def keys(datagrams: Sequence[Datagram], media_port: int) -> str:
    """The keys sent from a media port: each begins with a marked packet (RFC 4733, 2.5.1.2)."""
    return "".join(
        KEYS[datagram.payload[_RTP_HEADER]]
        for datagram in datagrams
        if datagram.source == media_port
        and _payload_type(datagram) == TELEPHONE_EVENT
        and datagram.payload[1] & 0x80
    )


def _wait_for(tcpdump: subprocess.Popen[bytes], report: Path) -> None:
    deadline = time.monotonic() + 10
    while "listening on" not in report.read_text():
        if tcpdump.poll() is not None or time.monotonic() > deadline:
            raise CaptureError(f"tcpdump did not start: {report.read_text()}")
        time.sleep(0.02)


def _follow(call: Dialog, message: Datagram, *, by_caller: bool) -> None:
    payload = message.payload
    answer = _FINAL_ANSWER.match(payload)
    if payload.startswith(b"INVITE "):
        port = _AUDIO_PORT.search(payload)
        call.media_port = int(port[1]) if port else 0
    elif answer and not by_caller and not call.status:
        call.status, call.answered_at = int(answer[1]), message.at
    elif payload.startswith(b"BYE ") and call.ended_by == "nobody":
        call.ended_by, call.ended_at = ("caller" if by_caller else "asterisk"), message.at


def _payload_type(datagram: Datagram) -> int:
    return datagram.payload[1] & 0x7F


def _sequence(datagram: Datagram) -> int:
    return int.from_bytes(datagram.payload[2:4])


def _in_order(packets: Sequence[Datagram]) -> list[Datagram]:
    """By RTP sequence number, which wraps: counted from half a turn before the first packet."""
    origin = _sequence(packets[0]) - 0x8000 if packets else 0
    return sorted(packets, key=lambda packet: (_sequence(packet) - origin) % 0x10000)
