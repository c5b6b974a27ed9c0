"""The catalogue of prompts, text first, and the audio built from it.

Every sentence is a text in `prompts.toml`, every word of a number or date one in `words.toml`; the
audio of a text is `<id>.wav`, spoken by espeak-ng and brought to the telephone's format by sox.
Only what changed is built again: a manifest beside the files remembers what each was made from.
"""

import hashlib
import json
import os
import re
import subprocess
import tomllib
import wave
from collections.abc import Callable, Collection, Iterable, KeysView, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Self

from ivr.errors import ScriptError
from shared.files import write_whole

FILES = ("prompts.toml", "words.toml")
LONGEST_TEXT = 500  # characters, about half a minute: longer, nobody listens
SAMPLE_RATE = 8_000  # Hz, mono, 16-bit: the telephone's own, so that Asterisk never resamples

_ID = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_SILENCE_ID = re.compile(r"silence-\d+")
_SAMPLE_BYTES = 2
_EDGE_MS = 50  # silence left at both ends of a text
_TIMEOUT_S = 30.0  # for one program and one text; half a minute of speech takes a tenth of a second
_MANIFEST = "manifest.json"

_ESPEAK = "espeak-ng -v fr -s 150 -b 1 --stdin --stdout"
# espeak-ng can't know the length it writes in the header of a pipe. The 3 dB at first are headroom
# for the resampling; no dither, so that the same text gives the same file.
_SOX = (
    "sox -V1 -D --ignore-length -t wav -"
    f" -t raw -r {SAMPLE_RATE} -c 1 -e signed-integer -b {8 * _SAMPLE_BYTES} -L -"
    " gain -3 rate silence 1 0.01 0.5% reverse silence 1 0.01 0.5% reverse norm -3"
)


class PromptError(Exception):
    """A prompt whose audio can't be built: « id: reason: what to do »."""


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The French text of every prompt, by id."""

    texts: Mapping[str, str]

    @classmethod
    def load(cls, dialplans: Path) -> Self:
        """Read the two TOML files of a dialplans folder; ScriptError with every finding."""
        texts: dict[str, str] = {}
        findings: list[str] = []
        for path in (dialplans / name for name in FILES):
            try:
                table = _read_table(path)
            except ScriptError as error:
                findings += error.findings
                continue
            for id_, value in table.items():
                try:
                    if id_ in texts:
                        raise ScriptError(f"{path}: {id_}: existe déjà dans {FILES[0]} : renommez")
                    texts[id_] = _text(path, id_, value)
                except ScriptError as error:
                    findings += error.findings
        if findings:
            raise ScriptError(*findings)
        return cls(MappingProxyType(texts))

    @property
    def ids(self) -> KeysView[str]:
        """All ids, in the order of the files."""
        return self.texts.keys()

    def __contains__(self, id_: object) -> bool:
        return id_ in self.texts

    def text(self, ids: Iterable[str]) -> str:
        """Return what the caller hears when these are played; KeyError on an unknown id."""
        return " ".join(self.texts[id_] for id_ in ids)


def silence_id(milliseconds: int) -> str:
    """Return the id of a silence of this length; ValueError unless it is positive."""
    if milliseconds <= 0:
        raise ValueError("a silence lasts a millisecond at least")
    return f"silence-{milliseconds}"


def build(
    catalogue: Catalogue,
    folder: Path,
    silences_ms: Collection[int],
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Make the audio of every prompt and silence in `folder`, where it is absent or out of date.

    `progress` is called in this thread with (files made, files to make). PromptError on the first
    text that can't be spoken: files made before it are kept, and not made again the next time.
    OSError when the folder can't be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sources = _sources(catalogue, silences_ms)
    made = _up_to_date(folder, sources)
    todo = [id_ for id_ in sources if id_ not in made]
    with (
        TemporaryDirectory(dir=folder, prefix=".build-") as name,
        ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool,
    ):
        scratch = Path(name)
        # First forgotten, then made: if we are killed, no old entry vouches for a newer file.
        _write_manifest(folder, made)
        jobs = pool.map(lambda id_: _make(folder, scratch, id_, sources[id_]), todo)
        try:
            for done, id_ in enumerate(jobs, 1):
                made[id_] = _fingerprint(sources[id_])
                if progress:
                    progress(done, len(todo))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            _write_manifest(folder, made)


def missing(catalogue: Catalogue, folder: Path, silences_ms: Collection[int]) -> list[str]:
    """Return the ids, sorted, without usable audio: absent, empty, cut or of another format.

    Asterisk goes on without a word when a file is missing, so this is checked at start.
    """
    ids = _sources(catalogue, silences_ms)
    return sorted(id_ for id_ in ids if not _is_usable(_audio(folder, id_)))


def _read_table(path: Path) -> dict[str, object]:
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ScriptError(f"{path}: file: ne peut pas être lu : {error.strerror}") from error
    except ValueError as error:
        raise ScriptError(f"{path}: file: n'est pas du TOML en UTF-8 : {error}") from error
    table = document.pop("prompts", None)
    if document or not isinstance(table, dict):
        raise ScriptError(f"{path}: prompts: le fichier tient en cette seule table")
    return table


def _text(path: Path, id_: str, value: object) -> str:
    """Check one entry; return its text on one line."""
    if not _ID.fullmatch(id_):
        raise ScriptError(f"{path}: {id_!r}: un identifiant : minuscules, chiffres, traits d'union")
    if _SILENCE_ID.fullmatch(id_):
        raise ScriptError(f"{path}: {id_}: le nom d'un silence : choisissez-en un autre")
    if not isinstance(value, str):
        raise ScriptError(f"{path}: {id_}: il faut un texte entre guillemets")
    text = " ".join(value.split())
    if not any(map(str.isalnum, text)):
        raise ScriptError(f"{path}: {id_}: le texte n'a aucun mot")
    if not text.isprintable():
        raise ScriptError(f"{path}: {id_}: le texte a un caractère invisible : retapez-le")
    if len(text) > LONGEST_TEXT:
        raise ScriptError(
            f"{path}: {id_}: {len(text)} caractères, {LONGEST_TEXT} au plus : coupez-le en deux"
        )
    return text


def _sources(catalogue: Catalogue, silences_ms: Collection[int]) -> dict[str, str | int]:
    """What each file is made from: a text, or the length of a silence in ms."""
    return {**catalogue.texts, **{silence_id(length): length for length in silences_ms}}


def _fingerprint(source: str | int) -> str:
    """Identify a source and how it is made: a new voice makes every file again."""
    return hashlib.sha256(repr((_ESPEAK, _SOX, _EDGE_MS, source)).encode()).hexdigest()


def _up_to_date(folder: Path, sources: Mapping[str, str | int]) -> dict[str, str]:
    """Return the manifest's entries that still hold; delete the files of ids no longer wanted."""
    known = _read_manifest(folder)
    for id_ in known.keys() - sources.keys():
        _audio(folder, id_).unlink(missing_ok=True)
    return {
        id_: known[id_]
        for id_, source in sources.items()
        if known.get(id_) == _fingerprint(source) and _is_usable(_audio(folder, id_))
    }


def _read_manifest(folder: Path) -> dict[str, str]:
    """Return the fingerprint of each file made; nothing at the first build or when damaged."""
    try:
        manifest: dict[str, str] = json.loads((folder / _MANIFEST).read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return manifest


def _write_manifest(folder: Path, made: Mapping[str, str]) -> None:
    write_whole(folder / _MANIFEST, json.dumps(made, indent=0, sort_keys=True))


def _make(folder: Path, scratch: Path, id_: str, source: str | int) -> str:
    """Make one audio file, put it in place whole, and return its id."""
    samples = _silence(source) if isinstance(source, int) else _speech(id_, source)
    whole = _audio(scratch, id_)
    with wave.open(str(whole), "wb") as audio:
        audio.setnchannels(1)
        audio.setsampwidth(_SAMPLE_BYTES)
        audio.setframerate(SAMPLE_RATE)
        audio.writeframes(samples)
    whole.replace(_audio(folder, id_))
    return id_


def _speech(id_: str, text: str) -> bytes:
    samples = _run(id_, _SOX, _run(id_, _ESPEAK, text.encode()))
    if not samples:
        raise PromptError(f"{id_}: le texte ne donne aucun son : écrivez-le en mots")
    return _silence(_EDGE_MS) + samples + _silence(_EDGE_MS)


def _silence(milliseconds: int) -> bytes:
    return bytes(SAMPLE_RATE * milliseconds // 1_000 * _SAMPLE_BYTES)


def _run(id_: str, command: str, data: bytes) -> bytes:
    program, *arguments = command.split()
    try:
        return subprocess.run(
            [program, *arguments], input=data, capture_output=True, timeout=_TIMEOUT_S, check=True
        ).stdout
    except subprocess.TimeoutExpired as error:
        raise PromptError(
            f"{id_}: {program} a mis plus de {_TIMEOUT_S:g} s : raccourcissez le texte, ou relancez"
        ) from error
    except subprocess.CalledProcessError as error:
        said = " ".join(error.stderr.decode(errors="replace").split()) or "sans message"
        raise PromptError(
            f"{id_}: {program} a échoué, code {error.returncode} ({said}) : essayez-le à la main"
        ) from error
    except OSError as error:
        raise PromptError(
            f"{id_}: {program} ne se lance pas ({error.strerror}) : apt-get install espeak-ng sox"
        ) from error


def _is_usable(path: Path) -> bool:
    try:
        with wave.open(str(path), "rb") as audio:
            shape = audio.getnchannels(), audio.getsampwidth(), audio.getframerate()
            frames = audio.getnframes()
            # All are read, for a cut file still announces its full length.
            return (
                shape == (1, _SAMPLE_BYTES, SAMPLE_RATE)
                and frames > 0
                and len(audio.readframes(frames)) == frames * _SAMPLE_BYTES
            )
    except (OSError, EOFError, wave.Error):
        return False


def _audio(folder: Path, id_: str) -> Path:
    return folder / f"{id_}.wav"
