"""What callers of each line hear, by the hour (R34 to R37): simulated calls at the tests' own time.

Platforms, announcements and choices that not everybody sees, too: what admins write, word by word.
"""

import tomllib
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import func, select, update
from stdnum.fr.nir import calc_check_digits

from ivr.handlers.menu import Menu
from ivr.hours import Hours
from ivr.script import Announcement, Platforms, Script
from ivr.script_files import DEFAULT_FOLDER
from ivr.server import VoiceServer
from ivr.simulated import HANG_UP, SimulatedCall
from shared.models import Account, Message, Person, Role, Situation
from shared.store import Store
from tests.store import CAISSE, NUMBER, PASSWORD, FakeClock, execute
from tests.telephony import (
    MENU,
    PAYMENT_HEARD,
    add_dossier,
    records,
    rules_of_the_cut_over,
    running,
)
from tests.web import HUGO, HUGO_NIR, add_person
from tests.web import add_dossier as add_owner

END_SECONDS = 60.0
SILENCE = ""

ARIPA, STUDENT, HELP = "3238", "0969325252", "0810292929"
READ_BACK = ["vous-avez-tape", *(f"chiffre-{digit}" for digit in NUMBER), "mot-de-passe"]


def words(text: str) -> list[str]:
    return text.split()


def choices(*prompts: str, end: str = "menu-reecouter") -> list[str]:
    """Give what a menu says whose choices have the keys from 1 on."""
    numbered = enumerate(prompts, start=1)
    return [word for key, one in numbered for word in (one, "tapez", f"chiffre-{key}")] + [end]


def keyed(nir: str) -> str:
    """Give the 15 digits that are keyed for a NIR without letters."""
    return nir + calc_check_digits(nir)


WEEK = words("horaires du jour-1 au jour-5 de nombre-9 heures a")
ARIPA_HOURS = [*WEEK, *words("nombre-16 heures nombre-30")]
STUDENT_HOURS = [*WEEK, *words("nombre-19 heures nombre-30")]
ARIPA_MENU = choices("choix-aripa-information", "choix-quitter")
STUDENT_MENU = choices("choix-aide-logement", "choix-consulter-dossier", "choix-conseiller")
STUDENT_MENU_CLOSED = choices("choix-aide-logement", "choix-consulter-dossier")
CLOSED_MENU = words(
    "choix-autres-moyens tapez chiffre-2 choix-quitter tapez chiffre-3 menu-reecouter"
)
HELP_MENU = choices(
    *("choix-mot-de-passe-oublie", "choix-aide-mot-de-passe", "choix-consulter-dossier"),
    end="menu-touches",
)


def opening(day: str, hour: str = "nombre-9") -> list[str]:
    """Give how the next opening is said; a day of November 2021."""
    year = "nombre-2 mille nombre-21"
    return words(f"prochaine-ouverture le {day} mois-11 {year} a {hour} heures")


MONDAY_15 = opening("jour-1 nombre-15")


def local(text: str, zone: str = "Europe/Paris") -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)


@pytest.fixture
def voice(store: Store, script: Script) -> Iterator[VoiceServer]:
    add_dossier(store)
    with running(store, script) as server:
        yield server


def place(voice: VoiceServer, line: str, *groups: str) -> SimulatedCall:
    """Place a call to its end; each group answers one question."""
    with SimulatedCall(voice.address, line=line, groups=[*groups, HANG_UP]) as call:
        call.wait_end(END_SECONDS)
    return call


# line, when, what is typed, what is heard after the greeting
CALLS = {
    # 3238, Monday to Friday, 9:00 to 16:30 (R35)
    "Aripa, on a working day": (ARIPA, "2021-11-12T09:00", [], ["transfert-conseiller"]),
    "Aripa, in its last minute": (ARIPA, "2021-11-12T16:29", [], ["transfert-conseiller"]),
    "Aripa, at the end of a Friday": (
        ARIPA, "2021-11-12T16:30", [], [*ARIPA_HOURS, *MONDAY_15, *ARIPA_MENU],
    ),
    "Aripa, before it opens": (
        ARIPA, "2021-11-12T08:59", [],
        [*ARIPA_HOURS, *opening("jour-5 nombre-12"), *ARIPA_MENU],
    ),
    "Aripa, on a public holiday": (
        ARIPA, "2021-11-11T10:00", [],
        [*ARIPA_HOURS, *opening("jour-5 nombre-12"), *ARIPA_MENU],
    ),
    "Aripa closed: what it does, then the end": (
        ARIPA, "2021-11-13T10:00", ["1", "2"],
        [*ARIPA_HOURS, *MONDAY_15, *ARIPA_MENU, "aripa-information", *ARIPA_MENU, "au-revoir"],
    ),
    "Aripa closed: an adviser asked for all the same": (
        ARIPA, "2021-11-13T10:00", ["0", "1", "2"],
        [
            *[*ARIPA_HOURS, *MONDAY_15, *ARIPA_MENU, *ARIPA_HOURS, *MONDAY_15, *CLOSED_MENU],
            *["choix-inconnu", *CLOSED_MENU, "autres-moyens", *CLOSED_MENU],
        ],
    ),
    "Aripa closed: silence comes to an end": (
        ARIPA, "2021-11-13T10:00", [SILENCE] * 3,
        [
            *[*ARIPA_HOURS, *MONDAY_15, *ARIPA_MENU, "rien-entendu", *ARIPA_MENU],
            *["rien-entendu", *ARIPA_MENU, "rien-entendu", "au-revoir"],
        ],
    ),
    # 09 69 32 52 52, Monday to Friday, 9:00 to 19:30 (R36)
    "students, on a working day": (STUDENT, "2021-11-12T19:29", [], STUDENT_MENU),
    "students: aid for housing": (
        STUDENT, "2021-11-12T10:00", ["1"],
        [*STUDENT_MENU, "etudiants-information", *STUDENT_MENU],
    ),
    "students: an adviser by 3": (
        STUDENT, "2021-11-12T10:00", ["3"], [*STUDENT_MENU, "transfert-conseiller"],
    ),
    "students, in the evening": (
        STUDENT, "2021-11-12T19:30", [], [*STUDENT_HOURS, *MONDAY_15, *STUDENT_MENU_CLOSED],
    ),
    "students, in the evening: no adviser by 3": (
        STUDENT, "2021-11-12T19:30", ["3"],
        [
            *[*STUDENT_HOURS, *MONDAY_15, *STUDENT_MENU_CLOSED],
            *["choix-inconnu", *STUDENT_MENU_CLOSED],
        ],
    ),
    "students, in the evening: silence comes to an end": (
        STUDENT, "2021-11-12T19:30", [SILENCE] * 6,
        [
            *[*STUDENT_HOURS, *MONDAY_15, *STUDENT_MENU_CLOSED, "rien-entendu"],
            *[*STUDENT_MENU_CLOSED, "rien-entendu", *STUDENT_MENU_CLOSED, "rien-entendu"],
            *[*STUDENT_HOURS, *MONDAY_15, *CLOSED_MENU, "rien-entendu", *CLOSED_MENU],
            *["rien-entendu", *CLOSED_MENU, "rien-entendu", "au-revoir"],
        ],
    ),
    "students, in the evening: their own dossier": (
        STUDENT, "2021-11-12T19:30", ["2", CAISSE, NUMBER, PASSWORD, "1"],
        [
            *[*STUDENT_HOURS, *MONDAY_15, *STUDENT_MENU_CLOSED, "departement", "numero"],
            *[*READ_BACK, *MENU, *PAYMENT_HEARD, *MENU],
        ],
    ),
    # 0810 29 29 29 (R37)
    "help: what a password is": (
        HELP, "2021-11-13T22:00", ["2"],
        [*HELP_MENU, "aide-information", "aide-information-suite", *HELP_MENU],
    ),
    "help: an adviser": (
        HELP, "2021-11-13T22:00", ["0"], [*HELP_MENU, "transfert-conseiller"],
    ),
    "help: a new password, which is then asked for": (
        HELP, "2021-11-13T22:00", ["1", CAISSE, NUMBER, "1", PASSWORD],
        [
            *[*HELP_MENU, "departement", "numero", "oubli-confirmer", "oubli-demande"],
            *[*READ_BACK, *MENU],
        ],
    ),
    "help: not forgotten after all": (
        HELP, "2021-11-13T22:00", ["1", CAISSE, NUMBER, PASSWORD],
        [*HELP_MENU, "departement", "numero", "oubli-confirmer", *MENU],
    ),
    "help: one's own dossier": (
        HELP, "2021-11-13T22:00", ["3", CAISSE], [*HELP_MENU, "departement", "numero"],
    ),
}  # fmt: skip
GREETINGS = {ARIPA: "accueil-aripa", STUDENT: "accueil-etudiants", HELP: "accueil-aide"}


@pytest.mark.parametrize(("line", "at", "groups", "prompts"), CALLS.values(), ids=CALLS)
def test_what_the_callers_of_a_line_hear(
    voice: VoiceServer,
    clock: FakeClock,
    *,
    line: str,
    at: str,
    groups: list[str],
    prompts: list[str],
) -> None:
    """R35, R36, R37: never silence, whatever the hour, and never round and round."""
    clock.now = local(at)
    assert place(voice, line, *groups).heard == [GREETINGS[line], *prompts]


# line, when, what is typed: what the dialplan is told, what the record says
ADVISERS = {
    "Aripa": (ARIPA, "2021-11-12T10:00", [], "aripa", "transferred"),
    "Aripa closed": (ARIPA, "2021-11-12T18:00", [SILENCE] * 3, None, "closed"),
    "students": (STUDENT, "2021-11-12T19:00", ["0"], "etudiants", "transferred"),
    "students in their dossier": (
        STUDENT, "2021-11-12T19:00", ["2", CAISSE, NUMBER, PASSWORD, "0"],
        "etudiants", "transferred",
    ),
    "help": (HELP, "2021-11-13T22:00", ["0"], "aide", "transferred"),
    "help, after three wrong numbers": (
        HELP, "2021-11-13T22:00", ["1", *["00"] * 3], "aide", "transferred",
    ),
    "the caisse keyed": (
        "3230", "2021-11-13T22:00", [CAISSE, *[SILENCE] * 3], f"caisse-{CAISSE}", "transferred",
    ),
    "the caisse of the line": (
        "0146300092", "2021-11-13T22:00", [SILENCE] * 3, "caisse-92", "transferred",
    ),
    "no caisse": ("3230", "2021-11-13T22:00", [SILENCE] * 3, "caisse-inconnue", "transferred"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("line", "at", "groups", "platform", "outcome"), ADVISERS.values(), ids=ADVISERS
)
def test_who_answers(
    voice: VoiceServer,
    store: Store,
    clock: FakeClock,
    *,
    line: str,
    at: str,
    groups: list[str],
    platform: str | None,
    outcome: str,
) -> None:
    """R34 to R37."""
    clock.now = local(at)
    call = place(voice, line, *groups)
    assert (call.variables["SVI_PLATFORM"] or None) == platform
    assert call.variables["SVI_NEXT"] == ("adviser" if platform else "goodbye")
    voice.stop(END_SECONDS)
    assert records(store)[0].outcome == outcome


@pytest.mark.silences
def test_the_help_line_has_a_password_sent(voice: VoiceServer, store: Store) -> None:
    """R37, R11: to who confirms."""
    for confirmation, messages in (("2", 0), ("1", 1)):
        place(voice, HELP, "1", CAISSE, NUMBER, confirmation)
        with store.database.read() as transaction:
            assert transaction.scalar(select(func.count()).select_from(Message)) == messages


def test_the_help_line_offers_no_password_after_the_cut_over(
    store: Store, script: Script, tmp_path: Path, clock: FakeClock
) -> None:
    """D10: the transition table says what the menu offers; keys that led there lead nowhere."""
    after = replace(store, rules=rules_of_the_cut_over(tmp_path))
    clock.now = local("2022-03-31T23:59:59")
    left = words("choix-consulter-dossier tapez chiffre-3 menu-touches")
    with running(after, script) as voice:
        assert place(voice, HELP).heard == ["accueil-aide", *HELP_MENU]
        clock.now = local("2022-04-01T00:00:00")
        assert place(voice, HELP, "1").heard == ["accueil-aide", *left, "choix-inconnu", *left]


def test_a_caller_who_dials_at_night_is_answered_when_it_opens(
    voice: VoiceServer, clock: FakeClock
) -> None:
    """The hours are asked for at each visit."""
    clock.now = local("2021-11-12T08:59")
    with SimulatedCall(voice.address, line=STUDENT, patient=True) as call:
        call.wait_heard("menu-reecouter", END_SECONDS)
        clock.now = local("2021-11-12T09:00")
        call.type("1")
        call.wait_heard("choix-conseiller", END_SECONDS)
        call.type("3")
        call.wait_end(END_SECONDS)
        assert call.variables["SVI_PLATFORM"] == "etudiants"


# ------------------------------------------------------------------------------------ platforms

OFFICE = "".join(
    f'{day} = ["9:00-17:00"]\n' for day in words("monday tuesday wednesday thursday friday")
)
PLATFORMS = """
[default]
hours = "office"

[platforms.west]
caisses = ["92", "973"]
hours = "office"

[platforms.north]
caisses = ["59"]
hours = "office"
overflow = "night"

[platforms.south]
caisses = ["13"]
hours = "office"
overflow = "north"

[platforms.always]
caisses = ["06"]

[platforms.night]
hours = "night"
"""
TABLES = f"[office]\n{OFFICE}\n[night]\nfriday = ['17:00-22:00']\n"


@pytest.fixture
def platforms(script: Script) -> Script:
    hours = {name: Hours.model_validate(table) for name, table in tomllib.loads(TABLES).items()}
    return replace(
        script,
        hours={**script.hours, **hours},
        platforms=Platforms.model_validate(tomllib.loads(PLATFORMS)),
    )


# the département keyed, when there, its zone, the platform (None: closed)
ROUTES = {
    "of its own row": ("92", "2021-11-12T10:00", "Europe/Paris", "west"),
    "closed": ("92", "2021-11-12T17:00", "Europe/Paris", None),
    "by the clocks of the caisse": ("973", "2021-11-12T16:59", "America/Cayenne", "west"),
    "closed by the clocks of the caisse": ("973", "2021-11-12T08:00", "America/Cayenne", None),
    "without a row": ("75", "2021-11-12T10:00", "Europe/Paris", "caisse-75"),
    "without a row, closed": ("75", "2021-11-12T17:00", "Europe/Paris", None),
    "without hours": ("06", "2021-11-13T03:00", "Europe/Paris", "always"),
    "open, so no overflow": ("59", "2021-11-12T10:00", "Europe/Paris", "north"),
    "overflow": ("59", "2021-11-12T17:00", "Europe/Paris", "night"),
    "overflow of the overflow": ("13", "2021-11-12T21:59", "Europe/Paris", "night"),
    "overflow closed too": ("13", "2021-11-12T22:00", "Europe/Paris", None),
}


@pytest.mark.parametrize(("department", "at", "zone", "platform"), ROUTES.values(), ids=ROUTES)
def test_which_platform_answers(
    store: Store,
    platforms: Script,
    clock: FakeClock,
    *,
    department: str,
    at: str,
    zone: str,
    platform: str | None,
) -> None:
    """R34: by caisse and hours; closed is told with the hours, and what stays open follows."""
    clock.now = local(at, zone)
    with running(store, platforms) as voice:
        call = place(voice, "3230", department, *[SILENCE] * 3, *([] if platform else ["3"]))
    if platform:
        assert call.heard[-1] == "transfert-conseiller"
        assert call.variables == {"SVI_NEXT": "adviser", "SVI_PLATFORM": platform}
    else:
        said = [*WEEK, *words("nombre-17 heures"), "prochaine-ouverture"]
        after = call.heard[call.heard.index("horaires") :]
        assert after[: len(said)] == said
        assert after[-len(CLOSED_MENU) - 1 :] == [*CLOSED_MENU, "au-revoir"]
        assert call.variables["SVI_NEXT"] == "goodbye"


def test_overseas_the_hours_of_paris_are_said_to_be_so(
    store: Store, platforms: Script, clock: FakeClock
) -> None:
    national = {**platforms.hours, "office": Hours.model_validate(
        {**tomllib.loads(OFFICE), "national": True})}  # fmt: skip
    clock.now = local("2021-11-12T18:00")
    with running(store, replace(platforms, hours=national)) as voice:
        assert "heure-de-paris" in place(voice, "3230", "973", *[SILENCE] * 3).heard
        assert "heure-de-paris" not in place(voice, "3230", "92", *[SILENCE] * 3).heard


def test_from_closed_hours_a_caller_comes_back_to_the_dossier(
    store: Store, platforms: Script, clock: FakeClock
) -> None:
    """General information stays open, and so does a dossier that is open already."""
    add_dossier(store)
    clock.now = local("2021-11-12T18:00")
    with running(store, platforms) as voice:
        heard = place(voice, "3230", CAISSE, NUMBER, PASSWORD, "0", "1", "1").heard
    closed_menu = choices("choix-retour-dossier", "choix-autres-moyens", "choix-quitter")
    assert heard[-len([*closed_menu, *MENU, *PAYMENT_HEARD, *MENU]) :] == [
        *[*closed_menu, *MENU, *PAYMENT_HEARD, *MENU]
    ]


# -------------------------------------------------------------------------------- announcements

ANNOUNCEMENTS = """
[all]
prompt = "dossier-03"

[strike]
prompt = "dossier-01"
from = 2021-11-12T08:00:00
until = 2021-11-12T18:00:00
lines = ["3230", "3238"]

[caisse]
prompt = "dossier-92"
caisses = ["92", "973"]
from = 2021-11-12T08:00:00

[emergency]
prompt = "dossier-02"
emergency = true
from = 2021-11-12T12:00:00
until = 2021-11-12T13:00:00

[flood]
prompt = "dossier-93"
emergency = true
caisses = ["93"]
"""


@pytest.fixture
def announcing(script: Script) -> Script:
    tables = tomllib.loads(ANNOUNCEMENTS).items()
    told = {name: Announcement.model_validate(table) for name, table in tables}
    return replace(script, announcements=told)


# line, when, what is typed, what is heard
ANNOUNCED = {
    "before it": ("3230", "2021-11-12T07:59", [], "accueil dossier-03 departement"),
    "from its first instant": (
        "3230", "2021-11-12T08:00", [], "accueil dossier-03 dossier-01 departement",
    ),
    "until its end": ("3230", "2021-11-12T18:00", [], "accueil dossier-03 departement"),
    "on a line that is named": (
        ARIPA, "2021-11-12T10:00", [], "accueil-aripa dossier-03 dossier-01 transfert-conseiller",
    ),
    "on another line": (
        "0146300092", "2021-11-12T10:00", [], "accueil-hauts-de-seine dossier-03 dossier-92 numero",
    ),
    "by caisse: after the département": (
        "3230", "2021-11-12T18:00", ["92"], "accueil dossier-03 departement dossier-92 numero",
    ),
    "by caisse, by its own clocks, not yet": (
        "3230", "2021-11-12T11:59", ["973"],
        "accueil dossier-03 dossier-01 departement numero",
    ),
    "an emergency comes first": (
        "3230", "2021-11-12T12:00", [], "dossier-02 accueil dossier-03 dossier-01 departement",
    ),
    "an emergency is over": (
        "3230", "2021-11-12T13:00", [], "accueil dossier-03 dossier-01 departement",
    ),
    "an emergency of a caisse": (
        "3230", "2021-11-12T18:00", ["93"], "accueil dossier-03 departement dossier-93 numero",
    ),
    "keys typed ahead pass over it": (
        "3230", "2021-11-12T18:00", [f"92{NUMBER}"],
        "accueil dossier-03 departement vous-avez-tape",
    ),
    "but not over an emergency: they are asked for again": (
        "3230", "2021-11-12T18:00", [f"93{NUMBER}"],
        "accueil dossier-03 departement dossier-93 numero",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("line", "at", "groups", "prompts"), ANNOUNCED.values(), ids=ANNOUNCED)
@pytest.mark.usefixtures("unhurried")
def test_what_is_announced(
    store: Store,
    announcing: Script,
    clock: FakeClock,
    *,
    line: str,
    at: str,
    groups: list[str],
    prompts: str,
) -> None:
    """To all, or by line and caisse, for a time; an emergency first, and whatever is typed."""
    clock.now = local(at)
    with running(store, announcing) as voice:
        heard = place(voice, line, *groups).heard
    assert heard == [*words(prompts), *(READ_BACK[1:] if prompts.endswith("tape") else [])]


@pytest.mark.usefixtures("unhurried")
def test_it_is_announced_once_a_call(store: Store, announcing: Script, clock: FakeClock) -> None:
    """At the département a second time, too; digits typed before an emergency count for nothing."""
    add_dossier(store)
    clock.now = local("2021-11-12T12:00")
    again = 'choices = [{ key = "1", prompt = "tapez", goto = "department" }]'
    with running(store, with_menu(announcing, again)) as voice:
        heard = place(voice, "3230", CAISSE, NUMBER, f"{PASSWORD}19301", SILENCE).heard
    for prompt in ("dossier-01", "dossier-02", "dossier-03", "dossier-93"):
        assert heard.count(prompt) == 1
    assert heard[-4:] == ["dossier-93", "numero", "rien-entendu", "numero-2"]


# ---------------------------------------------------------------- choices that not everybody sees

CHOICES = """
[[choices]]
key = "1"
prompt = "dossier-01"
goto = "last_payment"
rights = ["read payments"]
[[choices]]
key = "2"
prompt = "dossier-02"
goto = "goodbye"
rights = ["read quotient familial", "read payments"]
[[choices]]
key = "3"
prompt = "dossier-03"
goto = "goodbye"
credentials = ["one-time-code"]
[[choices]]
key = "3"
prompt = "dossier-04"
goto = "goodbye"
credentials = ["password"]
"""
HIDING = """
[[choices]]
key = "1"
prompt = "dossier-01"
goto = "last_payment"
hours = "aripa"
[[choices]]
key = "2"
prompt = "dossier-02"
goto = "goodbye"
from = 2021-11-12T12:00:00
until = 2021-11-12T14:00:00
[[choices]]
key = "3"
prompt = "dossier-03"
goto = "goodbye"
login = { credential = "one-time-code", identifier = "nir" }
"""


def with_menu(script: Script, toml: str) -> Script:
    """Give the script with other choices in its main menu."""
    file = tomllib.loads((DEFAULT_FOLDER / "menus.toml").read_text("utf-8"))
    table: dict[str, Any] = {**file["main_menu"], **tomllib.loads(toml)}
    return replace(script, steps={**script.steps, "main_menu": Menu.model_validate(table)})


def offered(heard: list[str]) -> str:
    """Give the keys that the menu after the login offered."""
    menu = heard[heard.index("mot-de-passe") :]
    return "".join(word[-1] for word in menu if word.startswith("chiffre-"))


@pytest.mark.parametrize(
    ("situation", "shown"),
    [(Situation.AFFILIE, "123"), (Situation.PRIMO_DEMANDEUR, "13")],
    ids=["claimant", "first claim (R32)"],
)
def test_choices_by_the_dossiers_situation(
    store: Store, script: Script, situation: Situation, shown: str
) -> None:
    add_dossier(store)
    execute(store, lambda t: t.execute(update(Account).values(situation=situation)))
    with running(store, with_menu(script, CHOICES)) as voice:
        heard = place(voice, "3230", CAISSE, NUMBER, PASSWORD).heard
    assert offered(heard) == shown
    assert "dossier-04" in heard


@pytest.mark.parametrize(
    ("delegated", "shown"), [(True, "123"), (False, "3")], ids=["delegation (R27)", "none (R29)"]
)
def test_choices_by_a_persons_rights(
    store: Store, script: Script, clock: FakeClock, tmp_path: Path, *, delegated: bool, shown: str
) -> None:
    clock.now = local("2022-04-01T10:00")
    after = replace(store, rules=rules_of_the_cut_over(tmp_path), chance=lambda _: 123_456)
    person_id = add_person(after, add_owner(after), HUGO, Role.CONJOINT)
    since = clock.now if delegated else None
    change = update(Person).where(Person.id == person_id).values(delegated_at=since)
    execute(after, lambda t: t.execute(change))
    with running(after, with_menu(script, CHOICES)) as voice:
        heard = place(voice, "3230", CAISSE, "1", keyed(HUGO_NIR), "123456", "1").heard
    menu = heard[heard.index("code") + 1 :]
    assert [one[-1] for one in menu if one.startswith("chiffre-")][: len(shown)] == [*shown]
    assert ("choix-inconnu" in menu) is ("1" not in shown)
    assert "dossier-03" in menu
    assert "dossier-04" not in menu


def test_a_delegation_withdrawn_in_mid_call_hides_the_choice(
    store: Store, script: Script, clock: FakeClock, tmp_path: Path
) -> None:
    """D11: rights are asked for at each visit."""
    clock.now = local("2022-04-01T10:00")
    after = replace(store, rules=rules_of_the_cut_over(tmp_path), chance=lambda _: 123_456)
    person_id = add_person(after, add_owner(after), HUGO, Role.CONJOINT)
    of_hugo = update(Person).where(Person.id == person_id)
    execute(after, lambda t: t.execute(of_hugo.values(delegated_at=clock.now)))
    groups = [CAISSE, "1", keyed(HUGO_NIR), "123456"]
    with (
        running(after, with_menu(script, CHOICES)) as voice,
        SimulatedCall(voice.address, groups=groups, patient=True) as call,
    ):
        call.wait_heard("dossier-01", END_SECONDS)
        execute(after, lambda t: t.execute(of_hugo.values(delegated_at=None)))
        call.type("1")
        call.wait_heard("acces-reserve", END_SECONDS)
    menu = call.heard[call.heard.index("acces-reserve") :]
    assert "dossier-01" not in menu


# when, the keys offered
HIDDEN = {
    "in the hours": ("2021-11-12T10:00", "1"),
    "in the hours and the period": ("2021-11-12T12:00", "12"),
    "the period is over": ("2021-11-12T14:00", "1"),
    "after the hours": ("2021-11-13T13:00", ""),
}


@pytest.mark.parametrize(("at", "shown"), HIDDEN.values(), ids=HIDDEN)
def test_choices_by_the_hour(
    store: Store, script: Script, clock: FakeClock, at: str, shown: str
) -> None:
    """Without any choice the menu is not said: an adviser is better than nothing."""
    add_dossier(store)
    clock.now = local(at)
    with running(store, with_menu(script, HIDING)) as voice:
        heard = place(voice, "3230", CAISSE, NUMBER, PASSWORD).heard
    assert offered(heard) == shown
    assert (heard[-1] == "transfert-conseiller") is (shown == "")
