"""The catalogue of prompts, and the audio made from it by the real espeak-ng and sox."""

import errno
import os
import subprocess
import wave
from pathlib import Path
from typing import Any

import pytest

from ivr import prompts
from ivr.errors import ScriptError
from ivr.prompts import Catalogue, PromptError

SMALL = Catalogue({"bonjour": "Bonjour.", "deux": "deux", "au-revoir": "Au revoir, à bientôt."})


@pytest.fixture
def dialplans(tmp_path: Path) -> Path:
    (tmp_path / "prompts.toml").write_text('[prompts]\nbonjour = "Bonjour."\n', "utf-8")
    (tmp_path / "words.toml").write_text('[prompts]\ndeux = "deux"\n', "utf-8")
    return tmp_path


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose programs are found before the real ones."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def program(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def samples(path: Path) -> list[int]:
    with wave.open(str(path), "rb") as audio:
        assert (audio.getnchannels(), audio.getsampwidth(), audio.getframerate()) == (1, 2, 8000)
        return memoryview(audio.readframes(audio.getnframes())).cast("h").tolist()


def write_wave(
    path: Path, *, channels: int = 1, width: int = 2, rate: int = 8000, frames: int = 800
) -> None:
    with wave.open(str(path), "wb") as audio:
        audio.setnchannels(channels)
        audio.setsampwidth(width)
        audio.setframerate(rate)
        audio.writeframes(bytes(frames * channels * width))


def count_made(catalogue: Catalogue, folder: Path, silences_ms: tuple[int, ...] = ()) -> int:
    calls: list[tuple[int, int]] = []
    prompts.build(catalogue, folder, silences_ms, lambda done, total: calls.append((done, total)))
    assert calls == [(done, len(calls)) for done in range(1, len(calls) + 1)]
    return len(calls)


# The catalogue


def test_catalogue_joins_both_files(dialplans: Path) -> None:
    catalogue = Catalogue.load(dialplans)
    assert list(catalogue.ids) == ["bonjour", "deux"]
    assert "deux" in catalogue
    assert "trois" not in catalogue
    assert catalogue.text(["deux", "bonjour"]) == "deux Bonjour."


def test_catalogue_refuses_an_unknown_id(dialplans: Path) -> None:
    with pytest.raises(KeyError, match="trois"):
        Catalogue.load(dialplans).text(["deux", "trois"])


def test_catalogue_is_frozen(dialplans: Path) -> None:
    with pytest.raises(TypeError):
        Catalogue.load(dialplans).texts["deux"] = "trois"  # type: ignore[index]


def test_a_text_on_several_lines_is_one_line(dialplans: Path) -> None:
    (dialplans / "words.toml").write_text('[prompts]\nx = """\nPour quitter,\n  tapez\u00a01."""\n')
    assert Catalogue.load(dialplans).text(["x"]) == "Pour quitter, tapez 1."


FAULTS = {
    "id of the other file": ('bonjour = "x"', "bonjour: existe déjà dans prompts.toml"),
    "id twice": ('a = "x"\na = "y"', "file: n'est pas du TOML en UTF-8 : "),
    "not TOML": ("a = ", "file: n'est pas du TOML en UTF-8 : "),
    "capital in an id": ('Au-revoir = "x"', "'Au-revoir': un identifiant : "),
    "accent in an id": ('"été" = "x"', "'été': un identifiant : "),
    "space in an id": ('"a b" = "x"', "'a b': un identifiant : "),
    "line feed in an id": ('"a\\nb" = "x"', "'a\\nb': un identifiant : "),
    "path in an id": ('"../a" = "x"', "'../a': un identifiant : "),
    "double hyphen in an id": ('a--b = "x"', "'a--b': un identifiant : "),
    "id of a silence": ('silence-7000 = "x"', "silence-7000: le nom d'un silence"),
    "number instead of text": ("a = 1", "a: il faut un texte entre guillemets"),
    "table instead of text": ('[prompts.a]\nb = "x"', "a: il faut un texte entre guillemets"),
    "empty text": ('a = ""', "a: le texte n'a aucun mot"),
    "blank text": ('a = "  "', "a: le texte n'a aucun mot"),
    "punctuation alone": ('a = "…"', "a: le texte n'a aucun mot"),
    "control character": ('a = "x\\u0007"', "a: le texte a un caractère invisible"),
    "zero-width space": ('a = "x\\u200b"', "a: le texte a un caractère invisible"),
    "text too long": (f'a = "{501 * "x"}"', "a: 501 caractères, 500 au plus"),
    "another table": ('[phrases]\na = "x"', "prompts: le fichier tient en cette seule table"),
}


@pytest.mark.parametrize(("lines", "finding"), FAULTS.values(), ids=FAULTS)
def test_fault_in_a_file(dialplans: Path, lines: str, finding: str) -> None:
    path = dialplans / "words.toml"
    path.write_text(f"[prompts]\n{lines}\n", "utf-8")
    with pytest.raises(ScriptError) as caught:
        Catalogue.load(dialplans)
    assert str(caught.value).startswith(f"{path}: {finding}")
    assert len(str(caught.value).splitlines()) == 1


def test_longest_text(dialplans: Path) -> None:
    (dialplans / "words.toml").write_text(f'[prompts]\na = "{500 * "x"}"\n')
    assert len(Catalogue.load(dialplans).text(["a"])) == 500


def test_no_table_at_all(dialplans: Path) -> None:
    (dialplans / "words.toml").write_text("")
    with pytest.raises(ScriptError, match="prompts: le fichier tient en cette seule table"):
        Catalogue.load(dialplans)


def test_file_in_another_encoding(dialplans: Path) -> None:
    (dialplans / "words.toml").write_text('[prompts]\na = "été"\n', "latin-1")
    with pytest.raises(ScriptError, match="n'est pas du TOML en UTF-8"):
        Catalogue.load(dialplans)


def test_absent_file(dialplans: Path) -> None:
    (dialplans / "words.toml").unlink()
    with pytest.raises(ScriptError, match=r"words\.toml: file: ne peut pas être lu : No such file"):
        Catalogue.load(dialplans)


# Building the audio


def test_build_makes_every_file(tmp_path: Path) -> None:
    folder = tmp_path / "fr" / "svi"
    assert count_made(SMALL, folder, (7000, 250)) == 5
    assert prompts.missing(SMALL, folder, (7000, 250)) == []
    assert {path.name for path in folder.iterdir()} == {
        "au-revoir.wav",
        "bonjour.wav",
        "deux.wav",
        "manifest.json",
        "silence-250.wav",
        "silence-7000.wav",
    }


def test_speech_is_loud_and_trimmed(tmp_path: Path) -> None:
    prompts.build(SMALL, tmp_path, ())
    for id_ in SMALL.ids:
        sound = samples(tmp_path / f"{id_}.wav")
        assert max(map(abs, sound)) == pytest.approx(32768 * 10 ** (-3 / 20), rel=0.02)
        assert not any(sound[:400])  # 50 ms
        assert not any(sound[-400:])
        assert any(sound[400:480])  # then speech at once
        assert any(sound[-480:-400])
        assert 0.3 < len(sound) / 8000 < 3


def test_silence_lasts_to_the_millisecond(tmp_path: Path) -> None:
    prompts.build(Catalogue({}), tmp_path, (7001,))
    assert samples(tmp_path / "silence-7001.wav") == [0] * 56_008


@pytest.mark.parametrize("milliseconds", [0, -1])
def test_silence_without_length(milliseconds: int) -> None:
    with pytest.raises(ValueError, match="a millisecond at least"):
        prompts.silence_id(milliseconds)


def test_nothing_is_made_twice(tmp_path: Path) -> None:
    prompts.build(SMALL, tmp_path, (250,))
    assert count_made(SMALL, tmp_path, (250,)) == 0


def test_a_changed_text_is_made_again(tmp_path: Path) -> None:
    prompts.build(SMALL, tmp_path, ())
    before = samples(tmp_path / "deux.wav")
    assert count_made(Catalogue({**SMALL.texts, "deux": "deux mille"}), tmp_path) == 1
    assert len(samples(tmp_path / "deux.wav")) > len(before)


def test_another_voice_makes_all_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts.build(SMALL, tmp_path, ())
    monkeypatch.setattr(prompts, "_ESPEAK", f"{prompts._ESPEAK} -p 40")
    assert count_made(SMALL, tmp_path) == len(SMALL.ids)


def test_a_damaged_file_is_made_again(tmp_path: Path) -> None:
    prompts.build(SMALL, tmp_path, ())
    (tmp_path / "deux.wav").write_bytes(b"")
    assert count_made(SMALL, tmp_path) == 1
    assert prompts.missing(SMALL, tmp_path, ()) == []


@pytest.mark.parametrize("content", ["", "{", "\x00"])
def test_a_damaged_manifest_makes_all_again(tmp_path: Path, content: str) -> None:
    prompts.build(SMALL, tmp_path, ())
    (tmp_path / "manifest.json").write_text(content)
    assert count_made(SMALL, tmp_path) == len(SMALL.ids)


def test_removed_prompts_lose_their_file_and_others_files_stay(tmp_path: Path) -> None:
    prompts.build(SMALL, tmp_path, (250, 300))
    write_wave(tmp_path / "not-ours.wav")
    prompts.build(Catalogue({"deux": "deux"}), tmp_path, (300,))
    assert sorted(path.name for path in tmp_path.glob("*.wav")) == [
        "deux.wav",
        "not-ours.wav",
        "silence-300.wav",
    ]


def test_a_failing_build_keeps_what_it_made(tmp_path: Path) -> None:
    mute = Catalogue({**SMALL.texts, "muet": "…"})
    with pytest.raises(PromptError, match=r"^muet: le texte ne donne aucun son : écrivez-le"):
        prompts.build(mute, tmp_path, ())
    assert prompts.missing(mute, tmp_path, ()) == ["muet"]
    assert count_made(Catalogue({**mute.texts, "muet": "voilà"}), tmp_path) == 1


def test_a_build_killed_half_way_is_not_believed(tmp_path: Path) -> None:
    """« un » became « deux », the build was killed after the file, and « un » came back."""
    manifest = tmp_path / "manifest.json"
    prompts.build(Catalogue({"a": "un"}), tmp_path, ())
    before = samples(tmp_path / "a.wav")
    on_disk: list[bytes] = []
    prompts.build(
        Catalogue({"a": "deux"}), tmp_path, (), lambda *_: on_disk.append(manifest.read_bytes())
    )
    manifest.write_bytes(on_disk[0])
    prompts.build(Catalogue({"a": "un"}), tmp_path, ())
    assert samples(tmp_path / "a.wav") == before


@pytest.mark.parametrize("name", ["espeak-ng", "sox"])
def test_a_failing_program(tmp_path: Path, programs: Path, name: str) -> None:
    program(programs, name, "echo 'no voice' >&2; echo here >&2; exit 3")
    with pytest.raises(PromptError) as caught:
        prompts.build(Catalogue({"deux": "deux"}), tmp_path, ())
    failed = f"{name} a échoué, code 3 (no voice here)"
    assert str(caught.value) == f"deux: {failed} : essayez-le à la main"


@pytest.mark.parametrize("name", ["espeak-ng", "sox"])
def test_a_program_that_hangs(
    tmp_path: Path, programs: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    program(programs, name, "exec sleep 100")
    run = subprocess.run

    def run_the_other_patiently(command: list[str], **options: Any) -> object:
        return run(command, **options | ({} if command[0] == name else {"timeout": 60}))

    monkeypatch.setattr(subprocess, "run", run_the_other_patiently)
    monkeypatch.setattr(prompts, "_TIMEOUT_S", 0.5)
    with pytest.raises(PromptError, match=f"^deux: {name} a mis plus de 0.5 s : raccourcissez"):
        prompts.build(Catalogue({"deux": "deux"}), tmp_path, ())


def test_a_missing_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PromptError) as caught:
        prompts.build(Catalogue({"deux": "deux"}), tmp_path / "audio", ())
    assert str(caught.value) == (
        "deux: espeak-ng ne se lance pas (No such file or directory) :"
        " apt-get install espeak-ng sox"
    )


def test_a_failing_build_leaves_no_half_file(tmp_path: Path, programs: Path) -> None:
    program(programs, "sox", "head -c 1000 /dev/zero; exit 1")
    with pytest.raises(PromptError):
        prompts.build(Catalogue({"deux": "deux"}), tmp_path / "audio", ())
    assert [path.name for path in (tmp_path / "audio").iterdir()] == ["manifest.json"]


def test_a_full_disk_leaves_the_old_file_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def disk_full(_audio: wave.Wave_write, _data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    prompts.build(Catalogue({"a": "un"}), tmp_path, ())
    before = samples(tmp_path / "a.wav")
    monkeypatch.setattr(wave.Wave_write, "writeframes", disk_full)
    with pytest.raises(OSError, match="No space left"):
        prompts.build(Catalogue({"a": "deux"}), tmp_path, ())
    assert samples(tmp_path / "a.wav") == before


# Checking the audio at start


def test_missing_before_any_build(tmp_path: Path) -> None:
    everything = ["au-revoir", "bonjour", "deux", "silence-250"]
    assert prompts.missing(SMALL, tmp_path / "nowhere", (250,)) == everything


def test_a_good_file_of_any_origin_is_not_missing(tmp_path: Path) -> None:
    write_wave(tmp_path / "deux.wav")
    assert prompts.missing(Catalogue({"deux": "deux"}), tmp_path, ()) == []


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param({"channels": 2}, id="stereo"),
        pytest.param({"width": 1}, id="8-bit"),
        pytest.param({"rate": 16_000}, id="16 kHz"),
        pytest.param({"frames": 0}, id="no sound"),
    ],
)
def test_a_file_of_another_format_is_missing(tmp_path: Path, fault: dict[str, int]) -> None:
    write_wave(tmp_path / "deux.wav", **fault)
    assert prompts.missing(Catalogue({"deux": "deux"}), tmp_path, ()) == ["deux"]


@pytest.mark.parametrize(
    "size",
    [
        pytest.param(0, id="empty"),
        pytest.param(20, id="cut in its header"),
        pytest.param(44, id="cut after its header"),
        pytest.param(1000, id="cut"),
    ],
)
def test_a_cut_file_is_missing(tmp_path: Path, size: int) -> None:
    path = tmp_path / "deux.wav"
    write_wave(path)
    path.write_bytes(path.read_bytes()[:size])
    assert prompts.missing(Catalogue({"deux": "deux"}), tmp_path, ()) == ["deux"]


def test_a_file_that_is_not_a_wave_is_missing(tmp_path: Path) -> None:
    (tmp_path / "deux.wav").write_bytes(b"ID3" + bytes(1000))
    assert prompts.missing(Catalogue({"deux": "deux"}), tmp_path, ()) == ["deux"]
