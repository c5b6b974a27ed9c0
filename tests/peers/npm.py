"""Third-party judges that npm brings: Prism, which knows Twilio's contract, and Twilio's own tools.

`package-lock.json` beside this file says which; nothing is downloaded while tests run.
"""

import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
MODULES = HERE / "node_modules"
CONTRACT = Path(
    os.environ.get("SVI_TWILIO_CONTRACT") or ROOT.parent / "shared/contracts/twilio_api_v2010.json"
)
START_SECONDS = 30.0

MESSAGES = "/2010-04-01/Accounts/{AccountSid}/Messages.json"


def need(path: Path, remedy: str) -> Path:
    """Give the path, or fail with what to do: a judge that is absent has judged nothing."""
    if not path.exists():
        pytest.fail(f"{path} is absent: {remedy}")
    return path


def contract() -> Path:
    """Give Twilio's OpenAPI description, which is not ours to copy."""
    return need(CONTRACT, "name Twilio's OpenAPI description in SVI_TWILIO_CONTRACT")


def contract_with_errors(folder: Path) -> Path:
    """Write a copy of the contract that knows Twilio's error answers too; it ships only successes.

    Their shape is from https://www.twilio.com/docs/usage/twilios-response.
    """
    description: dict[str, Any] = json.loads(contract().read_text(encoding="utf-8"))
    for operation in ("post", "get"):
        responses = description["paths"][MESSAGES][operation]["responses"]
        for status in ("400", "401", "403", "404", "429", "500"):
            responses[status] = {"description": "Error", "content": {"application/json": _ERROR}}
    path = folder / "twilio-with-errors.json"
    path.write_text(json.dumps(description), encoding="utf-8")
    return path


_ERROR = {
    "schema": {
        "type": "object",
        "properties": {
            "code": {"type": "integer"},
            "message": {"type": "string"},
            "more_info": {"type": "string", "format": "uri"},
            "status": {"type": "integer"},
        },
        "required": ["code", "message", "more_info", "status"],
    }
}


@contextmanager
def prism(command: str, port: int, *rest: str) -> Iterator[str]:
    """Run `prism mock CONTRACT` or `prism proxy CONTRACT UPSTREAM`; gives its address.

    With `--errors` whatever breaks the contract is answered as an error that names the fault.
    """
    program = needed_module(".bin/prism")
    arguments = ["-h", "127.0.0.1", "-p", str(port), "--errors", *rest]
    process = subprocess.Popen(
        [str(program), command, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _wait_until_open(process, port)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def npm_signature(token: str, url: str, params: Mapping[str, str]) -> str:
    """Sign a webhook with Twilio's npm package."""
    return _node("sign.js", "twilio", {"token": token, "url": url, "params": params})


def npm_segments(texts: Sequence[str]) -> list[list[tuple[str, bytes]]]:
    """Split texts with Twilio's npm package: each SMS's text, and its septets as octets."""
    split = json.loads(_node("segments.js", "sms-segments-calculator", texts))
    return [[(said, bytes(septets)) for said, septets in segments] for segments in split]


def needed_module(name: str) -> Path:
    """Give where an npm package is, or fail with what to do."""
    return need(MODULES / name, f"run: npm ci --prefix {HERE.relative_to(ROOT)}")


def _node(script: str, module: str, question: object) -> str:
    """Give what one of our scripts makes of a question, with an npm package's help."""
    needed_module(module)
    answered = subprocess.run(
        ["node", HERE / script],
        input=json.dumps(question),
        capture_output=True,
        check=True,
        text=True,
    )
    return answered.stdout


def _wait_until_open(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise RuntimeError("Prism did not start")
