"""The test voice itself: what it says must be heard as such, or not at all."""

import wave
from pathlib import Path

import numpy as np
import pytest

from tests.acceptance import tones

VOICE = [f"prompt-{number:03}" for number in range(700)]
SOME = [VOICE[0], VOICE[15], VOICE[16], VOICE[255], VOICE[256], VOICE[-1]]


def alaw(samples: tones.Samples) -> bytes:
    """The nearest A-law byte for every sample: an encoder that shares only the table."""
    table = tones.alaw_table().astype(int)
    codes = table.argsort()
    halfway = (table[codes][1:] + table[codes][:-1]) / 2
    nearest: bytes = codes[np.searchsorted(halfway, samples)].astype(np.uint8).tobytes()
    return nearest


def frames(samples: tones.Samples) -> list[tones.Frame]:
    """The packets Asterisk would send, the last one filled up with silence."""
    padded = np.append(samples, np.zeros(-len(samples) % tones.FRAME, np.int16))
    sent = alaw(padded)
    return [
        tones.Frame(at / tones.SAMPLE_RATE, sent[at : at + tones.FRAME])
        for at in range(0, len(sent), tones.FRAME)
    ]


def read(path: Path) -> tones.Samples:
    with wave.open(str(path)) as wav:
        assert (wav.getnchannels(), wav.getsampwidth(), wav.getframerate()) == (1, 2, 8000)
        return np.frombuffer(wav.readframes(wav.getnframes() - 22), "<i2")  # as Asterisk does


def heard(samples: tones.Samples) -> list[str]:
    return [prompt.prompt for prompt in tones.decode(frames(samples), VOICE)]


@pytest.fixture(scope="module")
def voice(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tones.Samples]:
    folder = tmp_path_factory.mktemp("voice")
    tones.write_voice(folder, [*VOICE, "silence-7000"])
    return {path.stem: read(path) for path in folder.glob("*.wav")}


def joined(voice: dict[str, tones.Samples], *prompts: str) -> tones.Samples:
    return np.concatenate([voice[prompt] for prompt in prompts])


@pytest.mark.parametrize(
    ("byte", "sample"),
    [(0xD5, 8), (0x55, -8), (0xAA, 32256), (0x2A, -32256), (0xC5, 264), (0xF5, 528)],
)
def test_alaw_is_g711(byte: int, sample: int) -> None:
    assert tones.alaw_table()[byte] == sample


def test_every_prompt_is_heard_as_itself(voice: dict[str, tones.Samples]) -> None:
    assert heard(joined(voice, *VOICE)) == VOICE


def test_a_prompt_is_a_whole_number_of_packets_and_short(voice: dict[str, tones.Samples]) -> None:
    assert {len(voice[prompt]) for prompt in VOICE} == {5 * 160}


def test_silence_is_silent_and_as_long_as_its_name_says(voice: dict[str, tones.Samples]) -> None:
    assert len(voice["silence-7000"]) == 7 * 8000
    assert not voice["silence-7000"].any()
    assert heard(voice["silence-7000"]) == []


def test_the_time_is_that_of_the_first_packet(voice: dict[str, tones.Samples]) -> None:
    pause = np.zeros(8000, np.int16)
    audio = np.concatenate([voice[VOICE[3]], pause, voice[VOICE[4]]])
    times = [prompt.at for prompt in tones.decode(frames(audio), VOICE)]
    assert times == pytest.approx([0.0, 1.1])


@pytest.mark.parametrize("samples", range(1, 5 * tones.FRAME, 37))
def test_a_cut_prompt_is_never_taken_for_another(
    voice: dict[str, tones.Samples], samples: int
) -> None:
    for prompt in SOME:
        assert set(heard(voice[prompt][:samples])) <= {prompt}


@pytest.mark.parametrize("packets", range(1, 5))
@pytest.mark.parametrize("following", SOME)
def test_what_follows_a_cut_prompt_is_heard_alone(
    voice: dict[str, tones.Samples], packets: int, following: str
) -> None:
    for prompt in SOME:
        audio = np.concatenate([voice[prompt][: packets * tones.FRAME], voice[following]])
        assert heard(audio) == [following]


@pytest.mark.parametrize("lost", range(5))
def test_a_prompt_that_lost_a_packet_is_not_heard(
    voice: dict[str, tones.Samples], lost: int
) -> None:
    for prompt in SOME:
        received = frames(joined(voice, prompt, VOICE[1]))
        received[lost] = tones.Frame(received[lost].at, tones.SILENCE)
        assert [each.prompt for each in tones.decode(received, VOICE)] == [VOICE[1]]


@pytest.mark.parametrize("wrong", range(1, 5))
def test_a_prompt_with_one_wrong_tone_is_not_heard(
    voice: dict[str, tones.Samples], wrong: int
) -> None:
    every_tone = [frames(tones.signature(0x111 * digit))[1] for digit in range(16)]
    received = frames(voice[VOICE[0x12]])
    others = [tone for tone in every_tone if tone.alaw != received[wrong].alaw]
    assert len(others) == 15
    for other in others:
        damaged = [*received[:wrong], other, *received[wrong + 1 :]]
        assert tones.decode(damaged, VOICE) == []


@pytest.mark.parametrize("offset", range(0, tones.FRAME, 7))
def test_a_shifted_prompt_is_never_taken_for_another(
    voice: dict[str, tones.Samples], offset: int
) -> None:
    for prompt in SOME:
        audio = np.concatenate([np.zeros(offset, np.int16), voice[prompt]])
        assert set(heard(audio)) <= {prompt}


def test_a_prompt_that_the_voice_does_not_have_is_not_heard() -> None:
    assert heard(tones.signature(len(VOICE))) == []
    assert heard(tones.signature(len(VOICE) - 1)) == [VOICE[-1]]


def test_noise_is_no_prompt() -> None:
    noise = np.random.default_rng(1).normal(0, 6_000, 20_000 * tones.FRAME // 10)
    assert heard(noise.clip(-32_000, 32_000).astype(np.int16)) == []


def test_noise_at_a_tenth_of_the_tones_does_no_harm(voice: dict[str, tones.Samples]) -> None:
    audio = joined(voice, *SOME)
    noise = np.random.default_rng(2).normal(0, 1_200, len(audio))
    assert heard((audio + noise).astype(np.int16)) == SOME


def test_nothing_received_is_nothing_heard() -> None:
    assert tones.decode([], VOICE) == []


def test_too_many_prompts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="4097 prompts"):
        tones.write_voice(tmp_path, (str(number) for number in range(4097)))
