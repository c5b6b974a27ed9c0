"""Our voice server as in production, whose script is one step that never ends."""

import tempfile
from dataclasses import replace
from pathlib import Path
from threading import Event

import click

from bench.figures import SERVER_CORE, pin
from bench.servers import NAME, VALUE
from ivr.call import Call
from ivr.script_files import load_script
from ivr.server import VoiceServer
from ivr.step import Step, StepId
from shared import logs
from shared.database import Database
from shared.keyring import KeyRing
from shared.rules import load_rules
from shared.store import Store

BUSY = StepId("busy")


class Busy(Step):
    """Sets a variable until the caller hangs up."""

    def run(self, call: Call) -> StepId | None:
        """Go on for ever."""
        while True:
            call.agi.set_variable(NAME, VALUE)


def main(home: Path) -> None:
    """Serve until killed."""
    logs.configure(home / "voice.log")
    url, keys = f"sqlite:///{home / 'store.db'}", home / "keys.json"
    Database(url).migrate()
    KeyRing.create(keys)
    script = replace(load_script(), first_step=BUSY, steps={BUSY: Busy()})
    server = VoiceServer(Store.open(url, keys, load_rules()), script)
    server.start()
    click.echo(server.address[1])
    Event().wait()


if __name__ == "__main__":
    pin(SERVER_CORE)
    with tempfile.TemporaryDirectory() as folder:
        main(Path(folder))
