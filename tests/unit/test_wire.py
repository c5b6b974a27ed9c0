"""What the harness reads from packets: order, loss, and whose hang-up it was."""

import struct
from pathlib import Path

import pytest

from tests.acceptance import wire
from tests.acceptance.tones import FRAME, SILENCE

SIP, MEDIA, ASTERISK_SIP, ASTERISK_MEDIA = 22_001, 22_020, 5_060, 10_000


def rtp(sequence: int, payload: bytes, *, kind: int = wire.PCMA, mark: bool = False) -> bytes:
    return struct.pack(">BBHII", 0x80, kind | mark << 7, sequence, 0, 0) + payload


def to_caller(sequence: int) -> wire.Datagram:
    audio = rtp(sequence, bytes([sequence % 256]) * FRAME)
    return wire.Datagram(sequence / 50, ASTERISK_MEDIA, MEDIA, audio)


def heard(sequences: list[int]) -> list[int]:
    frames = wire.audio([to_caller(sequence) for sequence in sequences], MEDIA)
    return [frame.alaw[0] for frame in frames]


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ([1, 2, 3], [1, 2, 3]),
        ([1, 3, 2], [1, 2, 3]),
        ([2, 1, 3], [1, 2, 3]),
        ([1, 2, 5], [1, 2, SILENCE[0], SILENCE[0], 5]),
        ([65_534, 65_535, 0, 1], [254, 255, 0, 1]),
        ([65_534, 1], [254, SILENCE[0], SILENCE[0], 1]),
        ([], []),
    ],
    ids=["in order", "swapped", "swapped first", "lost", "wrapped", "lost at the wrap", "none"],
)
def test_audio_is_put_in_order_and_lost_packets_are_silence(
    sent: list[int], expected: list[int]
) -> None:
    assert heard(sent) == expected


def test_a_short_packet_is_filled_up_with_silence() -> None:
    short = wire.Datagram(0, ASTERISK_MEDIA, MEDIA, rtp(1, b"\x01" * 138))
    [frame] = wire.audio([short], MEDIA)
    assert frame.alaw == b"\x01" * 138 + SILENCE[:22]


def test_only_what_is_sent_to_the_caller_is_heard() -> None:
    sent = wire.Datagram(0, MEDIA, ASTERISK_MEDIA, rtp(1, SILENCE))
    other_kind = wire.Datagram(0, ASTERISK_MEDIA, MEDIA, rtp(1, SILENCE, kind=0))
    assert wire.audio([sent, other_kind], MEDIA) == []


def test_a_key_counts_once_though_it_takes_many_packets() -> None:
    packets = [
        wire.Datagram(0, MEDIA, ASTERISK_MEDIA, rtp(number, event, kind=96, mark=mark))
        for number, (event, mark) in enumerate(
            (bytes([event, 0, 0, 0]), mark) for event in (5, 5, 11) for mark in (True, False, False)
        )
    ]
    assert wire.keys(packets, MEDIA) == "55#"


def message(first_line: str, *, by_caller: bool, at: float, call: int = 1) -> wire.Datagram:
    text = (
        f"{first_line}\r\nCall-ID: {call}-99@127.0.0.1\r\n\r\nm=audio {MEDIA + call} RTP/AVP 8\r\n"
    )
    ports = (SIP, ASTERISK_SIP) if by_caller else (ASTERISK_SIP, SIP)
    return wire.Datagram(at, *ports, text.encode())


def test_calls_are_told_apart_and_so_are_their_ends() -> None:
    calls = wire.dialogs(
        [
            message("INVITE sip:a SIP/2.0", by_caller=True, at=1, call=1),
            message("SIP/2.0 100 Trying", by_caller=False, at=2, call=1),
            message("INVITE sip:a SIP/2.0", by_caller=True, at=2, call=2),
            message("SIP/2.0 200 OK", by_caller=False, at=3, call=1),
            message("SIP/2.0 200 OK", by_caller=False, at=4, call=2),
            message("BYE sip:a SIP/2.0", by_caller=True, at=5, call=1),
            message("BYE sip:b SIP/2.0", by_caller=False, at=6, call=2),
            message("BYE sip:b SIP/2.0", by_caller=False, at=7, call=1),
            message("INVITE sip:a SIP/2.0", by_caller=True, at=8, call=3),
            message("SIP/2.0 486 Busy here", by_caller=False, at=9, call=3),
        ],
        SIP,
    )
    assert calls == {
        1: wire.Dialog(MEDIA + 1, 200, 3, 5, "caller"),
        2: wire.Dialog(MEDIA + 2, 200, 4, 6, "asterisk"),
        3: wire.Dialog(MEDIA + 3, 486, 9, 0, "nobody"),
    }


def test_a_pcap_file_is_read_whole(tmp_path: Path) -> None:
    ethernet, ip = bytes(14), bytes([0x46]) + bytes(23)  # an IP header with 4 bytes of options
    udp = struct.pack(">HHHH", SIP, ASTERISK_SIP, 13, 0) + b"hello"
    packet = ethernet + ip + udp
    record = struct.pack("<IIII", 1_700_000_000, 250_000, len(packet), len(packet)) + packet
    pcap = tmp_path / "calls.pcap"
    pcap.write_bytes(bytes(24) + record + record)
    assert (
        list(wire.read_pcap(pcap))
        == [wire.Datagram(1_700_000_000.25, SIP, ASTERISK_SIP, b"hello")] * 2
    )
