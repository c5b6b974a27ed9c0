"""A voice made of tone signatures, so that a test can tell which prompt a caller really heard.

A prompt is five symbols of one 20 ms frame each, 100 ms in all: a start mark, the prompt's rank in
the sorted list of ids as three hexadecimal digits, and a check digit. Each is one pure tone.
Asterisk plays a file in 20 ms packets aligned with its start, so a packet holds one whole symbol.
A cut prompt lacks a symbol and decodes as nothing; as the start mark is no digit, what follows the
cut can never complete it.
"""

import wave
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

SAMPLE_RATE = 8_000
FRAME = 160  # samples: 20 ms
SILENCE = b"\xd5" * FRAME  # A-law
SIGNATURE = 5  # frames

_BASE = 16
_START = _BASE
_NEITHER = -1
# Multiples of 50 Hz are whole cycles in a frame: exact lines of its spectrum, without clicks.
_DIGIT_HZ = np.arange(700, 700 + _BASE * 150, 150)
_SYMBOL_HZ = np.append(_DIGIT_HZ, 500)
_AMPLITUDE = 12_000
# Asterisk counts a WAV file's header as part of its audio and so leaves out the last 44 bytes.
_UNPLAYED = np.zeros(22, np.int16)
_PURITY = 0.9  # share of a frame's energy in one spectral line; A-law alone leaves over 0.99
_CHECK_WEIGHTS = np.array([1, 3, 5])

Samples = npt.NDArray[np.int16]


@dataclass(frozen=True)
class Frame:
    """20 ms of received audio: 160 A-law bytes, and when they came (seconds)."""

    at: float
    alaw: bytes


@dataclass(frozen=True)
class Heard:
    """A prompt whose whole signature was received, and when it began (seconds)."""

    prompt: str
    at: float


def write_voice(folder: Path, prompt_ids: Iterable[str]) -> None:
    """Writes `<id>.wav` (8 kHz, mono, 16 bits) for every prompt; `silence-<ms>` is real silence.

    Raises ValueError for more prompts than three hexadecimal digits can number.
    """
    ids = set(prompt_ids)
    spoken = _ranked(ids)
    for rank, prompt in enumerate(spoken):
        _write_wav(folder / f"{prompt}.wav", signature(rank))
    for prompt in ids.difference(spoken):
        milliseconds = int(prompt.removeprefix("silence-"))
        _write_wav(folder / f"{prompt}.wav", np.zeros(milliseconds // 20 * FRAME, np.int16))


def signature(rank: int) -> Samples:
    """The samples of one prompt's signature."""
    digits = _digits(rank)
    phase = 2 * np.pi * np.arange(FRAME) / SAMPLE_RATE
    tones = [np.sin(_SYMBOL_HZ[symbol] * phase) for symbol in (_START, *digits, _check(digits))]
    return (_AMPLITUDE * np.concatenate(tones)).astype(np.int16)


def decode(frames: Sequence[Frame], prompt_ids: Iterable[str]) -> list[Heard]:
    """The prompts in received audio, in order; `prompt_ids` is what `write_voice` was given."""
    prompts = _ranked(prompt_ids)
    symbols = _symbols(frames)
    heard = []
    for start in np.flatnonzero(symbols == _START).tolist():
        rank = _rank(symbols[start + 1 : start + SIGNATURE])
        if rank is not None and rank < len(prompts):
            heard.append(Heard(prompts[rank], frames[start].at))
    return heard


def _ranked(prompt_ids: Iterable[str]) -> list[str]:
    prompts = sorted({prompt for prompt in prompt_ids if not prompt.startswith("silence-")})
    if len(prompts) > _BASE**3:
        raise ValueError(f"{len(prompts)} prompts: the test voice can number {_BASE**3}")
    return prompts


def _digits(rank: int) -> npt.NDArray[np.int64]:
    return np.array([rank // _BASE**2, rank // _BASE % _BASE, rank % _BASE])


def _check(digits: npt.NDArray[np.int64]) -> int:
    return int(digits @ _CHECK_WEIGHTS) % _BASE


def _rank(symbols: npt.NDArray[np.int64]) -> int | None:
    """The rank said by the four symbols after a start mark; None if they are no signature."""
    whole = len(symbols) == SIGNATURE - 1
    if not whole or not np.all((symbols >= 0) & (symbols < _BASE)):
        return None
    digits, check = symbols[:3], symbols[3]
    return int(digits @ [_BASE**2, _BASE, 1]) if check == _check(digits) else None


def _symbols(frames: Sequence[Frame]) -> npt.NDArray[np.int64]:
    """One symbol per frame: 0 to 15, the start mark, or neither."""
    received = np.frombuffer(b"".join(frame.alaw for frame in frames), np.uint8)
    audio = _ALAW[received].reshape(-1, FRAME)
    energy = np.abs(np.fft.rfft(audio, axis=1)[:, 1:]) ** 2
    line = energy.argmax(axis=1)
    pure = energy.max(axis=1) > _PURITY * energy.sum(axis=1)
    return np.where(pure, _SYMBOL_OF_LINE[line + 1], _NEITHER)


def _symbol_of_line() -> npt.NDArray[np.int64]:
    lines = np.full(FRAME // 2 + 1, _NEITHER)
    lines[_SYMBOL_HZ * FRAME // SAMPLE_RATE] = np.arange(len(_SYMBOL_HZ))
    return lines


def alaw_table() -> Samples:
    """What each A-law byte means as a 16-bit sample (ITU-T G.711, table 1a)."""
    code = np.arange(256) ^ 0x55
    exponent, mantissa = code >> 4 & 7, code & 15
    normal = ((mantissa << 4) + 0x108) << np.maximum(exponent - 1, 0)
    magnitude = np.where(exponent == 0, (mantissa << 4) + 8, normal)
    return np.where(code & 0x80, magnitude, -magnitude).astype(np.int16)


def _write_wav(path: Path, samples: Samples) -> None:
    with wave.open(str(path), "wb") as wav:
        wav.setnchannels(1)
        wav.setsampwidth(2)
        wav.setframerate(SAMPLE_RATE)
        wav.writeframes(np.append(samples, _UNPLAYED).astype("<i2").tobytes())


_SYMBOL_OF_LINE = _symbol_of_line()
_ALAW = alaw_table()
