"""An SMSC that accepts one text, from whoever binds, and has next to nothing else to do.

`python -m bench.servers.smsc COUNT TEXT` prints the port that it listens on; and when it has that
text for so many recipients, when that was and how many submissions it took, as JSON.
"""

import asyncio
import json
import struct
import time
from typing import cast

import click

HEAD = struct.Struct(">IIII")  # length, command, status, sequence (SMPP 3.4, 3.2)
RESPONSE = 0x80000000
BIND_TRANSCEIVER, SUBMIT_SM = 0x09, 0x04
REJECTED = 0x65  # ESME_RX_P_APPN
AFTER_DESTINATION = 3  # esm_class, protocol_id, priority_flag
AFTER_VALIDITY = 4  # registered_delivery, replace_if_present_flag, data_coding, sm_default_msg_id


class Smsc:
    """Who has got the text, of so many who are to get it."""

    def __init__(self, expected: int, text: bytes) -> None:
        self._expected = expected
        self._text = text
        self._recipients: set[bytes] = set()
        self._submissions = 0

    def submitted(self, body: bytes) -> int:
        """Take a submit_sm; give its status."""
        recipient, text = _read(body)
        if text != self._text:
            return REJECTED
        self._submissions += 1
        self._recipients.add(recipient)
        if len(self._recipients) == self._expected:
            click.echo(json.dumps({"at": time.monotonic(), "submissions": self._submissions}))
            self._expected = 0
        return 0


class Session(asyncio.Protocol):
    """One connection."""

    def __init__(self, smsc: Smsc) -> None:
        self._smsc = smsc
        self._unread = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep where answers go."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Answer every whole PDU."""
        data, at, answers = self._unread + data, 0, b""
        while len(data) - at >= HEAD.size:
            length, command, _, sequence = HEAD.unpack_from(data, at)
            if len(data) - at < length:
                break
            answers += self._answer(command, sequence, data[at + HEAD.size : at + length])
            at += length
        self._unread = data[at:]
        self._transport.write(answers)

    def _answer(self, command: int, sequence: int, body: bytes) -> bytes:
        if command & RESPONSE:
            return b""
        status, said = 0, b""
        if command == SUBMIT_SM:
            status = self._smsc.submitted(body)
            said = b"%08x\0" % sequence
        elif command == BIND_TRANSCEIVER:
            said = b"smsc\0"
        return HEAD.pack(HEAD.size + len(said), command | RESPONSE, status, sequence) + said


def _read(body: bytes) -> tuple[bytes, bytes]:
    """Give recipient and text of a submit_sm (SMPP 3.4, 4.4.1)."""
    at = body.index(0) + 1 + 2  # service_type; then type and plan of a number precede it
    at = body.index(0, at) + 1 + 2
    end = body.index(0, at)
    recipient = body[at:end]
    at = body.index(0, end + 1 + AFTER_DESTINATION) + 1  # schedule_delivery_time
    at = body.index(0, at) + 1 + AFTER_VALIDITY
    return recipient, body[at + 1 : at + 1 + body[at]]


async def _serve(smsc: Smsc) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Session(smsc), "127.0.0.1", 0)
    click.echo(server.sockets[0].getsockname()[1])
    await server.serve_forever()


@click.command()
@click.argument("count", type=int)
@click.argument("text")
def main(count: int, text: str) -> None:
    """Serve until killed."""
    asyncio.run(_serve(Smsc(count, text.encode("ascii"))))


if __name__ == "__main__":
    main()
