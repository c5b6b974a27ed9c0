"""Asterisk's files, written from `dialplans/asterisk` for one installation, and its process.

Asterisk lives in a folder made by `tools/asterisk.sh` and is run by that folder's own loader and
libraries: no chroot, no mount, nothing installed on the machine.
"""

import errno
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Container, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT
from typing import NoReturn

from ivr.errors import ScriptError
from shared.files import write_whole
from shared.secret import Secret

SOURCE = Path(__file__).parent / "dialplans" / "asterisk"
MAJOR_VERSION = 22
LOOPBACK = "127.0.0.1"

PLACEHOLDERS = {
    "HOME",
    "RUN",
    "MODULES",
    "SIP_HOST",
    "SIP_PORT",
    "PUBLIC_HOST",
    "TRUNK",
    "AGI_ADDRESS",
    "AMI_HOST",
    "AMI_PORT",
    "AMI_PERMIT",
    "AMI_SECRET",
    "RTP_START",
    "RTP_END",
}

ADDRESSES = {"PUBLIC_HOST", "TRUNK", "AMI_HOST", "AMI_PERMIT"}
"""Placeholders in whose place an admin may also write addresses."""

_PROMPT = re.compile(r"\bsvi/([a-z0-9-]+)")
_PLACEHOLDER = re.compile(r"@([A-Z_]+)@")
_UNSAFE_VALUE = re.compile(r"[;\x00-\x1f\x7f]|^\s|\s$|^$")
_LONGEST_SOCKET_PATH = 107  # bytes: sun_path of unix(7), less its final NUL
_CLI_SECONDS = 5.0
_POLL_SECONDS = 0.1


class AsteriskFileError(ScriptError):
    """A finding in Asterisk's files or in a value that goes into them, on one line."""


class AsteriskStartError(Exception):
    """Asterisk can't start, or stopped by itself while starting: why, on one line."""


@dataclass(frozen=True)
class Addition:
    """More of Asterisk's files: each is appended to its namesake, or stands for itself.

    `values` are those of the placeholders that these files alone have.
    """

    source: Path
    values: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True)
class AsteriskSettings:
    """What differs from one installation to the next.

    `agi_address` is `host:port` of the voice server; `home` is Asterisk's own folder for etc, log,
    spool, lib and data; `root` the folder that `tools/asterisk.sh` made; `prompts` the folder of
    `<id>.wav` files, played as `svi/<id>`. `public_host` is the address that callers are told, by
    default `sip_host`. `trunk` and `ami_permit` are the addresses or networks (CIDR), separated by
    commas, that may call and that may use the manager interface. `addition` is what this
    installation has beside the files of all.
    """

    sip_host: str
    sip_port: int
    agi_address: str
    ami_port: int
    ami_secret: Secret
    home: Path
    root: Path
    prompts: Path
    rtp_start: int = 10000
    rtp_end: int = 20000
    public_host: str = ""
    trunk: str = LOOPBACK
    ami_host: str = LOOPBACK
    ami_permit: str = LOOPBACK
    addition: Addition | None = None


def render(settings: AsteriskSettings, source: Path = SOURCE, run: Path | None = None) -> None:
    """Write `home` whole: `etc` from the files of `source`, the folders, the links to sounds.

    `run` is the folder of the control socket, by default `home/run`. Nothing is written when
    AsteriskFileError is raised.
    """
    home = settings.home.resolve()
    texts = _render_texts(source, _placeholder_values(settings, run or home / "run"))
    if settings.addition:
        added = _render_texts(settings.addition.source, settings.addition.values)
        texts |= {name: texts.get(name, "") + text for name, text in added.items()}
    home.mkdir(mode=0o700, parents=True, exist_ok=True)  # a log may name a caller
    for folder in ("run", "cache", "lib/keys", "spool", "log/cdr-custom", "data/sounds/fr"):
        (home / folder).mkdir(parents=True, exist_ok=True)
    _link(home / "data/sounds/fr/svi", settings.prompts.resolve())
    _link(home / "data/documentation", settings.root.resolve() / "usr/share/asterisk/documentation")
    _replace_folder(home / "etc", texts)


def check_files(source: Path, prompts: Container[str] | None) -> None:
    """Check what `render` would write, and that the prompts it plays exist; AsteriskFileError.

    With None, for a catalogue that can't be read, prompts are not looked up.
    """
    findings: list[str] = []
    try:
        _render_texts(source, dict.fromkeys(PLACEHOLDERS, "x"))
    except AsteriskFileError as error:
        findings += error.findings
    if prompts is not None:
        findings += [
            f"{place}: svi/{prompt}: ce message n'existe pas dans prompts.toml"
            for place, prompt in _prompts_played(source)
            if prompt not in prompts
        ]
    if findings:
        raise AsteriskFileError(*findings)


def _prompts_played(source: Path) -> Iterator[tuple[str, str]]:
    """Give « file:line » and id of every prompt that the files play, comments apart."""
    for path in sorted(source.glob("*.conf")):
        lines = path.read_text("utf-8", "replace").splitlines()
        for number, line in enumerate(lines, start=1):
            for prompt in _PROMPT.findall(line.partition(";")[0]):
                yield f"{path}:{number}", prompt


def _placeholder_values(settings: AsteriskSettings, run: Path) -> dict[str, str]:
    values = {
        "HOME": settings.home.resolve(),
        "RUN": run,
        "MODULES": _libraries(settings.root) / "asterisk/modules",
        "SIP_HOST": settings.sip_host,
        "SIP_PORT": settings.sip_port,
        "PUBLIC_HOST": settings.public_host or settings.sip_host,
        "TRUNK": settings.trunk,
        "AGI_ADDRESS": settings.agi_address,
        "AMI_HOST": settings.ami_host,
        "AMI_PORT": settings.ami_port,
        "AMI_PERMIT": settings.ami_permit,
        "AMI_SECRET": settings.ami_secret.reveal(),
        "RTP_START": settings.rtp_start,
        "RTP_END": settings.rtp_end,
    }
    return {name: str(value) for name, value in values.items()}


def _render_texts(source: Path, values: Mapping[str, str]) -> dict[str, str]:
    """Give the filled-in text of every file of `source`, by file name."""
    for name, value in values.items():
        if _UNSAFE_VALUE.search(value):
            raise AsteriskFileError(
                f"{name} : cette valeur ne peut pas aller dans les fichiers d'Asterisk : elle est"
                " vide, bordée d'espaces, ou a un point-virgule ou un caractère de contrôle"
            )
    used: set[str] = set()
    texts = {}
    for path in sorted(source.glob("*.conf")):
        lines = _read(path).splitlines()
        for number, line in enumerate(lines, start=1):
            used |= _known_placeholders(f"{path.name}:{number}", line, values)
        texts[path.name] = "".join(
            _PLACEHOLDER.sub(lambda match: values[match[1]], line) + "\n" for line in lines
        )
    if unused := sorted(values.keys() - used - ADDRESSES):
        raise AsteriskFileError(f"{source}: aucun fichier n'a de place pour @{unused[0]}@")
    return texts


def _known_placeholders(place: str, line: str, values: Mapping[str, str]) -> set[str]:
    names = set(_PLACEHOLDER.findall(line))
    if unknown := sorted(names - values.keys()):
        known = ", ".join(values)
        raise AsteriskFileError(f"{place}: @{unknown[0]}@ n'existe pas ; connus : {known}")
    return names


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise AsteriskFileError(
            f"{path}: doit être enregistré en UTF-8 (octet {error.start})"
        ) from None


def _replace_folder(folder: Path, texts: Mapping[str, str]) -> None:
    """Readable by their owner alone: one of the files holds the AMI secret."""
    fresh = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    for name, text in texts.items():
        write_whole(fresh / name, text, mode=0o600)
    shutil.rmtree(folder, ignore_errors=True)
    fresh.rename(folder)


def _link(link: Path, target: Path) -> None:
    link.unlink(missing_ok=True)
    link.symlink_to(target)


def _libraries(root: Path) -> Path:
    """Find the library folder of the root's architecture, such as usr/lib/x86_64-linux-gnu."""
    for loader in root.resolve().glob("usr/lib/*/ld-linux*.so.*"):
        return loader.parent
    raise AsteriskStartError(f"{root} : il n'y a pas d'Asterisk ; lancez tools/asterisk.sh")


class Asterisk:
    """One Asterisk process, which dies with the thread that started it, even on SIGKILL.

    Start it from a thread that lives as long as it must: the kernel ties it to that thread.
    """

    def __init__(self, settings: AsteriskSettings, source: Path = SOURCE) -> None:
        self._settings = settings
        self._source = source
        self._short_run: tempfile.TemporaryDirectory[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Write the files and start the process; AsteriskFileError or AsteriskStartError if not."""
        self._check_version()
        for port, remedy in self._ports():
            if port.in_use():
                raise AsteriskStartError(f"{port} est déjà pris : {remedy}")
        render(self._settings, self._source, self._run_folder())
        with self._console.open("wb") as console:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *self._command("-f")],
                stdin=DEVNULL,
                stdout=console,
                stderr=STDOUT,
                start_new_session=True,  # Ctrl-C is for us, who then stop it in order
            )

    def wait_ready(self, timeout: float) -> None:
        """Wait until calls can come; AsteriskStartError after `timeout` seconds or if it died."""
        deadline = time.monotonic() + timeout
        while not self._booted():
            if not self.alive():
                self._fail("Asterisk s'est arrêté en démarrant")
            if time.monotonic() > deadline:
                self._fail(f"Asterisk n'est pas prêt après {timeout:g} s")
            time.sleep(_POLL_SECONDS)
        for port, _ in self._ports():
            if not port.in_use():
                self._fail(f"Asterisk n'écoute pas : {port}")

    def alive(self) -> bool:
        """Say whether the process runs."""
        return self._process is not None and self._process.poll() is None

    def cli(self, command: str, timeout: float = _CLI_SECONDS) -> str:
        """Run a command of Asterisk's console and give what it prints, "" if out of reach."""
        try:
            return subprocess.run(
                self._command("-rx", command),
                stdin=DEVNULL,
                stdout=PIPE,
                stderr=DEVNULL,
                timeout=timeout,
                check=False,
            ).stdout.decode("utf-8", "replace")
        except subprocess.TimeoutExpired:
            return ""

    def stop(self, timeout: float = 5.0) -> None:
        """End the process: asked, told, then killed, with `timeout` seconds for each."""
        process, self._process = self._process, None
        if process is not None:
            for end in (
                lambda: self.cli("core stop now", timeout),
                process.terminate,
                process.kill,
            ):
                if process.poll() is None:
                    end()
                    with suppress(subprocess.TimeoutExpired):
                        process.wait(timeout)
        if self._short_run is not None:
            self._short_run.cleanup()
            self._short_run = None

    @property
    def _console(self) -> Path:
        return self._settings.home / "log/console"

    def _command(self, *arguments: str) -> list[str]:
        root = self._settings.root.resolve()
        libraries = _libraries(root)
        loader = next(libraries.glob("ld-linux*.so.*"))
        program = [str(loader), "--library-path", str(libraries), str(root / "usr/sbin/asterisk")]
        configuration = self._settings.home.resolve() / "etc/asterisk.conf"
        return [*program, "-C", str(configuration), *arguments]

    def _check_version(self) -> None:
        answer = subprocess.run(
            self._command("-V"), capture_output=True, text=True, timeout=_CLI_SECONDS, check=False
        ).stdout.strip()
        if not answer.startswith(f"Asterisk {MAJOR_VERSION}."):
            raise AsteriskStartError(
                f"{self._settings.root} : il faut Asterisk {MAJOR_VERSION}, celui-ci dit {answer!r}"
            )

    def _ports(self) -> Iterator[tuple["_Port", str]]:
        """Give the ports it listens on, each with what to do if another program does."""
        sip = _Port(socket.SOCK_DGRAM, self._settings.sip_host, self._settings.sip_port)
        yield sip, "donnez un autre SVI_SIP_PORT"
        ami = _Port(socket.SOCK_STREAM, self._settings.ami_host, self._settings.ami_port)
        yield ami, "relancez"  # it was free when it was chosen

    def _run_folder(self) -> Path:
        """Put the control socket elsewhere when its path would be too long for the kernel."""
        run = self._settings.home.resolve() / "run"
        if len(bytes(run / "asterisk.ctl")) <= _LONGEST_SOCKET_PATH:
            return run
        self._short_run = tempfile.TemporaryDirectory(prefix="svi-asterisk-")
        return Path(self._short_run.name)

    def _booted(self) -> bool:
        return "fully booted" in self.cli("core waitfullybooted")

    def _fail(self, what: str) -> NoReturn:
        self.stop()
        printed = self._console.read_text("utf-8", "replace").split("\n")
        last = next((line for line in reversed(printed) if line.strip()), "")
        log = self._settings.home / "log/messages"
        raise AsteriskStartError(f"{what} ; voir {log}" + (f" ; il a dit : {last}" if last else ""))


@dataclass(frozen=True)
class _Port:
    kind: socket.SocketKind
    host: str
    number: int

    def __str__(self) -> str:
        name = "UDP" if self.kind == socket.SOCK_DGRAM else "TCP"
        return f"port {name} {self.number} de {self.host}"

    def in_use(self) -> bool:
        with socket.socket(socket.AF_INET, self.kind) as probe:
            if self.kind == socket.SOCK_STREAM:  # connections that linger don't hold the port
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((self.host, self.number))
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    return True
                raise AsteriskStartError(f"{self} : {error.strerror or error}") from None
        return False
