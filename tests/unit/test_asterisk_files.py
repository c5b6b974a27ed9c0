"""Asterisk's files: what is filled in, what is refused, and what they must never hold."""

import configparser
import re
from dataclasses import replace
from pathlib import Path

import pytest

from ivr.asterisk import (
    SOURCE,
    Addition,
    Asterisk,
    AsteriskFileError,
    AsteriskSettings,
    AsteriskStartError,
    render,
)
from shared.secret import Secret
from svi.telephone.server import Telephone


@pytest.fixture
def settings(tmp_path: Path) -> AsteriskSettings:
    root = tmp_path / "root"
    libraries = root / "usr/lib/some-linux-gnu"
    libraries.mkdir(parents=True)
    (libraries / "ld-linux.so.2").touch()
    return AsteriskSettings(
        sip_host="192.0.2.1",
        sip_port=5066,
        agi_address="192.0.2.2:4573",
        ami_port=5039,
        ami_secret=Secret("open-sesame"),
        home=tmp_path / "home",
        root=root,
        prompts=tmp_path / "prompts",
    )


def source_with(tmp_path: Path, line: str) -> Path:
    """The repository's files, and one more that holds `line`."""
    folder = tmp_path / "source"
    folder.mkdir()
    for path in SOURCE.glob("*.conf"):
        (folder / path.name).write_text(path.read_text("utf-8"), "utf-8")
    (folder / "extra.conf").write_text(f"; en tête\n{line}\n", "utf-8")
    return folder


def instructions(name: str) -> list[str]:
    """The lines of one of the repository's files, without comments and blank lines."""
    lines = (SOURCE / name).read_text("utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.strip().startswith(";")]


def test_fills_in_the_values(settings: AsteriskSettings) -> None:
    render(settings)
    etc = settings.home / "etc"
    assert {path.name for path in etc.iterdir()} == {path.name for path in SOURCE.iterdir()}
    assert "bind = 192.0.2.1:5066\n" in (etc / "pjsip.conf").read_text("utf-8")
    assert "AGI(agi://192.0.2.2:4573)\n" in (etc / "extensions.conf").read_text("utf-8")
    manager = (etc / "manager.conf").read_text("utf-8")
    assert "bindaddr = 127.0.0.1\n" in manager  # unless told otherwise, this machine alone
    assert "permit = 127.0.0.1\n" in manager
    assert "match = 127.0.0.1\n" in (etc / "pjsip.conf").read_text("utf-8")
    assert "external_media_address = 192.0.2.1\n" in (etc / "pjsip.conf").read_text("utf-8")
    assert "port = 5039\n" in (etc / "manager.conf").read_text("utf-8")
    assert "secret = open-sesame\n" in (etc / "manager.conf").read_text("utf-8")
    assert f"astlogdir => {settings.home}/log\n" in (etc / "asterisk.conf").read_text("utf-8")
    assert not [path.name for path in etc.iterdir() if "@" in _code(path)]


def _code(path: Path) -> str:
    return re.sub("^;.*$", "", path.read_text("utf-8"), flags=re.MULTILINE)


def test_only_the_owner_reads_what_was_written(settings: AsteriskSettings) -> None:
    render(settings)
    etc = settings.home / "etc"
    assert {folder.stat().st_mode & 0o777 for folder in (settings.home, etc)} == {0o700}
    assert {path.stat().st_mode & 0o777 for path in etc.iterdir()} == {0o600}


def test_the_secret_shows_in_no_print_of_the_settings(settings: AsteriskSettings) -> None:
    assert "open-sesame" not in f"{settings} {settings!r}"


def test_sounds_and_documentation_are_links_that_follow_the_settings(
    settings: AsteriskSettings, tmp_path: Path
) -> None:
    render(settings)
    render(replace(settings, prompts=tmp_path / "studio"))
    data = settings.home / "data"
    assert (data / "sounds/fr/svi").readlink() == tmp_path / "studio"
    assert (data / "documentation").readlink() == settings.root / "usr/share/asterisk/documentation"


def test_writing_again_leaves_nothing_of_before(settings: AsteriskSettings, tmp_path: Path) -> None:
    render(settings, source_with(tmp_path, "; rien"))
    render(replace(settings, sip_port=5099))
    etc = settings.home / "etc"
    assert not (etc / "extra.conf").exists()
    assert ":5099\n" in (etc / "pjsip.conf").read_text("utf-8")
    assert [path.name for path in settings.home.glob(".*")] == []


def test_an_unknown_placeholder_is_named_with_its_place(
    settings: AsteriskSettings, tmp_path: Path
) -> None:
    source = source_with(tmp_path, "bind = @SIP_PROT@")
    with pytest.raises(AsteriskFileError) as caught:
        render(settings, source)
    message = str(caught.value)
    assert message.startswith("extra.conf:2: @SIP_PROT@ n'existe pas ; connus : HOME, ")
    assert "\n" not in message
    assert not settings.home.exists()


def test_a_placeholder_that_no_file_uses_is_an_error(
    settings: AsteriskSettings, tmp_path: Path
) -> None:
    source = source_with(tmp_path, "")
    (source / "manager.conf").write_text("secret = @AMI_SECRET@\n", "utf-8")
    with pytest.raises(AsteriskFileError, match="aucun fichier n'a de place pour @AMI_PORT@"):
        render(settings, source)


def test_an_admin_may_write_addresses_in_the_files(
    settings: AsteriskSettings, tmp_path: Path
) -> None:
    source = source_with(tmp_path, "")
    pjsip = source / "pjsip.conf"
    pjsip.write_text(pjsip.read_text("utf-8").replace("@TRUNK@", "203.0.113.7"), "utf-8")
    render(settings, source)
    assert "match = 203.0.113.7\n" in (settings.home / "etc/pjsip.conf").read_text("utf-8")


def test_an_addition_is_appended_to_its_namesake_or_stands_for_itself(
    settings: AsteriskSettings, tmp_path: Path
) -> None:
    added = tmp_path / "added"
    added.mkdir()
    (added / "http.conf").write_text("bindport = @PORT@\n", "utf-8")
    (added / "modules.conf").write_text("[modules](+)\n", "utf-8")
    render(replace(settings, addition=Addition(added, {"PORT": "8088"})))
    etc = settings.home / "etc"
    assert (etc / "http.conf").read_text("utf-8") == "bindport = 8088\n"
    modules = (SOURCE / "modules.conf").read_text("utf-8")
    assert (etc / "modules.conf").read_text("utf-8") == f"{modules}[modules](+)\n"


@pytest.mark.parametrize(
    ("line", "values", "complaint"),
    [
        ("bindport = @SIP_PORT@", {"PORT": "1"}, r"@SIP_PORT@ n'existe pas ; connus : PORT$"),
        ("bindport = 8088", {"PORT": "1"}, "aucun fichier n'a de place pour @PORT@"),
        ("bindport = @PORT@", {"PORT": "1\nprefix ="}, "^PORT : cette valeur ne peut pas aller"),
    ],
)
def test_an_addition_is_checked_like_the_files_of_all(
    settings: AsteriskSettings, tmp_path: Path, line: str, values: dict[str, str], complaint: str
) -> None:
    added = tmp_path / "added"
    added.mkdir()
    (added / "http.conf").write_text(f"{line}\n", "utf-8")
    with pytest.raises(AsteriskFileError, match=complaint):
        render(replace(settings, addition=Addition(added, values)))
    assert not settings.home.exists()


def test_a_file_that_is_not_utf8_is_named(settings: AsteriskSettings, tmp_path: Path) -> None:
    source = source_with(tmp_path, "")
    (source / "extra.conf").write_bytes(b"; \xe9t\xe9\n")
    with pytest.raises(
        AsteriskFileError, match=r"extra\.conf: doit être enregistré en UTF-8 \(octet 2\)$"
    ):
        render(settings, source)


@pytest.mark.parametrize("value", ["a\nb", "a\rb", "a;b", "", " a", "a ", "a\0b"], ids=repr)
def test_a_value_that_could_change_the_file_is_refused(
    settings: AsteriskSettings, value: str
) -> None:
    with pytest.raises(AsteriskFileError, match=r"^SIP_HOST : cette valeur ne peut pas aller"):
        render(replace(settings, sip_host=value))


def test_a_refused_secret_is_not_shown(settings: AsteriskSettings) -> None:
    with pytest.raises(AsteriskFileError) as caught:
        render(replace(settings, ami_secret=Secret("hush;hush")))
    assert "hush" not in str(caught.value)


def test_a_root_without_asterisk_says_what_to_run(
    settings: AsteriskSettings, tmp_path: Path
) -> None:
    with pytest.raises(AsteriskStartError, match=r"pas d'Asterisk ; lancez tools/asterisk\.sh$"):
        render(replace(settings, root=tmp_path / "empty"))


def test_another_major_version_is_refused(settings: AsteriskSettings) -> None:
    loader = settings.root / "usr/lib/some-linux-gnu/ld-linux-test.so.2"
    loader.write_text("#!/bin/sh\necho Asterisk 23.1.0\n")
    loader.chmod(0o755)
    with pytest.raises(AsteriskStartError, match=r"il faut Asterisk 22, .* 'Asterisk 23\.1\.0'$"):
        Asterisk(settings).start()


# What the repository's files must never say (D13, R16): each of these lets digits out.


def test_no_log_has_a_level_that_holds_keys() -> None:
    files = [line.split("=>") for line in instructions("logger.conf") if "=>" in line]
    levels = {level.strip() for _, value in files for level in value.split(",")}
    assert levels == {"notice", "error"}  # never dtmf, verbose, debug; a warning may name callers


def test_call_records_hold_five_fields_and_nothing_of_the_caller() -> None:
    (mapping,) = [line for line in instructions("cdr_custom.conf") if "=>" in line]
    fields = re.findall(r"CDR\((\w+)\)", mapping)
    assert fields == ["start", "duration", "disposition", "uniqueid", "line"]


def test_the_manager_user_reads_nothing_and_writes_the_least() -> None:
    parser = configparser.ConfigParser(strict=True)
    parser.read_string("\n".join(instructions("manager.conf")))
    assert parser.sections() == ["general", "svi"]
    assert "read" not in parser["svi"]
    assert set(parser["svi"]["write"].split(",")) == {"reporting", "call"}
    assert parser["general"]["bindaddr"] == "@AMI_HOST@"
    assert parser["svi"]["deny"] == "0.0.0.0/0.0.0.0"
    assert parser["svi"]["permit"] == "@AMI_PERMIT@"


def test_the_dialplan_never_touches_the_name_that_a_caller_gives() -> None:
    assert not [line for line in instructions("extensions.conf") if "CALLERID" in line.upper()]


@pytest.mark.parametrize("module", ["app_system", "func_shell", "app_originate", "res_ari", "http"])
def test_no_module_can_run_a_program_or_call_out_by_itself(module: str) -> None:
    lines = instructions("modules.conf")
    assert lines[:2] == ["[modules]", "autoload = no"]
    assert not [line for line in lines if module in line]


def test_only_a_known_address_may_call() -> None:
    lines = instructions("pjsip.conf")
    assert "endpoint_identifier_order = ip" in lines
    assert [line for line in lines if line.startswith("match")] == ["match = @TRUNK@"]
    assert not [line for line in lines if "anonymous" in line]
    assert "identify_by = ip" in lines  # whatever an installation adds for others


# The telephone of the page (svi/telephone) is of `svi up` alone.


@pytest.mark.parametrize("word", ["websocket", "webrtc", "telephone", "endpoint_identifier_user"])
def test_the_files_of_all_know_nothing_of_the_telephone(word: str) -> None:
    assert not (SOURCE / "http.conf").exists()
    code = [line for path in SOURCE.glob("*.conf") for line in instructions(path.name)]
    assert not [line for line in code if word in line]


def test_the_telephone_is_for_this_machine_and_proves_itself(settings: AsteriskSettings) -> None:
    telephone = Telephone(0, 8088, {})
    render(replace(settings, addition=telephone.asterisk_files))
    etc = settings.home / "etc"
    secret = telephone.asterisk_files.values["TELEPHONE_SECRET"]
    http, pjsip = ((etc / name).read_text("utf-8") for name in ("http.conf", "pjsip.conf"))
    for line in ("bindaddr = 127.0.0.1", "bindport = 8088", f"prefix = {secret}"):
        assert f"\n{line}\n" in http
    *_, endpoint, credential = pjsip.split("[telephone]\n")
    for line in ("identify_by = username", "auth = telephone", "context = from-trunk"):
        assert f"\n{line}\n" in endpoint
    assert f"\npassword = {secret}\n" in credential
    assert secret not in repr(replace(settings, addition=telephone.asterisk_files))
