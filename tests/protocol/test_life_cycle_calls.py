"""What callers hear of a credential's life: its end, the cut-over, an incident (simulated calls).

Every call is made twice, on each database; what is typed and heard stands in labelled tables.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import update
from stdnum.fr.nir import calc_check_digits

from ivr.script import Script
from ivr.server import VoiceServer
from ivr.simulated import HANG_UP, SimulatedCall
from shared import incident
from shared.models import Account, Credential, Person, Role
from shared.rules import Channel
from shared.store import Store
from tests.store import (
    CAISSE,
    NUMBER,
    PASSWORD,
    SECOND,
    CountingHasher,
    FakeClock,
    add_account,
    execute,
    pay,
    watch,
)
from tests.telephony import (
    MENU,
    PAYMENT_HEARD,
    WRONG,
    add_dossier,
    records,
    rules_of_the_cut_over,
    running,
)
from tests.web import HUGO, HUGO_NIR, NIR, UNKNOWN_NIR, add_person, sent
from tests.web import add_dossier as add_owner

END_SECONDS = 20.0
CUT_OVER = datetime(2022, 3, 31, 22, tzinfo=UTC)  # midnight of 1 April 2022 in Paris
CODE, WRONG_CODE = "123456", "123457"
OTHER_CAISSE = "92"
OTHER_NUMBER = "7654321"


def keyed(nir: str) -> str:
    """Give the 15 digits that are keyed for a NIR without letters."""
    return nir + calc_check_digits(nir)


KEYED, HUGO_KEYED, UNKNOWN_KEYED = keyed(NIR), keyed(HUGO_NIR), keyed(UNKNOWN_NIR)
THIRD_KEYED = keyed("1910275112003")

PASSWORD_ASKED = ["vous-avez-tape", *(f"chiffre-{digit}" for digit in NUMBER), "mot-de-passe"]
CHANGED = ["identification-changee", "choix-nir", "tapez", "chiffre-1", "menu-touches"]
ANNOUNCED = ["incident", "transfert-conseiller"]


def day(number: int, month: int, year: int) -> list[str]:
    """Say a day of this century that is not the first of a month, up to the year 2099."""
    return ["le", f"nombre-{number}", f"mois-{month}", "nombre-2", "mille", f"nombre-{year - 2000}"]


@pytest.fixture
def voice(store: Store, script: Script) -> Iterator[VoiceServer]:
    with running(store, script) as server:
        yield server


@pytest.fixture
def after(store: Store, tmp_path: Path, clock: FakeClock) -> Store:
    """The store after the cut-over, where every code is the same."""
    clock.now = CUT_OVER
    return replace(store, rules=rules_of_the_cut_over(tmp_path), chance=lambda _: int(CODE))


def heard(voice: VoiceServer, *groups: str) -> list[str]:
    """Place a call to its end; give what is heard after « accueil » and « departement »."""
    with SimulatedCall(voice.address, groups=[CAISSE, *groups, HANG_UP]) as call:
        call.wait_end(END_SECONDS)
    assert call.heard[:2] == ["accueil", "departement"]
    return call.heard[2:]


def after_menu(voice: VoiceServer, meanwhile: Callable[[], object], until: str) -> list[str]:
    """Log in; when the menu is heard something happens; ask for the payment, hear `until`."""
    with SimulatedCall(voice.address, groups=[CAISSE, NUMBER, PASSWORD], patient=True) as call:
        call.wait_heard("menu-touches", END_SECONDS)
        before = len(call.heard)
        meanwhile()
        call.type("1")
        call.wait_heard(until, END_SECONDS)
    return call.heard[before:]


def add_paid_owner(store: Store) -> UUID:
    """Add Claire's dossier, with the payment that PAYMENT_HEARD says; give its id."""
    account_id = add_owner(store)
    pay(store, account_id, ("2021-11-05", 123_450))
    return account_id


def last_call(store: Store, voice: VoiceServer) -> tuple[str, str | None]:
    """Give the outcome and the caisse that the last call's record has."""
    voice.stop(END_SECONDS)
    return records(store)[-1].outcome, records(store)[-1].caisse


def make_provisional(store: Store) -> None:
    execute(store, lambda t: t.execute(update(Credential).values(provisional=True)))


def provisional_until(number: int, month: int, year: int) -> list[str]:
    return ["mot-de-passe-provisoire", *day(number, month, year), "mot-de-passe-a-changer"]


def ends_soon(number: int, month: int, year: int) -> list[str]:
    said = ["mot-de-passe-bientot-expire", *day(number, month, year)]
    return [*said, "mot-de-passe-bientot-expire-suite"]


OLD_CODE = "4821"

# The call is on 2 November 2021, 10:30 in Paris. What opens the dossier, when it ends, whether it
# is provisional; what is heard of it before the menu.
NOTICES = {
    "a password without an end": (PASSWORD, None, False, []),
    "the old 4-digit code (R03)": (OLD_CODE, None, False, ["code-a-remplacer"]),
    "a provisional password (R09)": (
        PASSWORD, "2022-01-09 09:30:00", True, provisional_until(9, 1, 2022)
    ),
    "the day is that of Paris": (
        PASSWORD, "2022-01-08 23:30:00", True, provisional_until(9, 1, 2022)
    ),
    "30 days before its end (R07)": (
        PASSWORD, "2021-12-02 09:30:00", False, ends_soon(2, 12, 2021)
    ),
    "a second sooner": (PASSWORD, "2021-12-02 09:30:01", False, []),
    "in the last second": (PASSWORD, "2021-11-02 09:30:01", False, ends_soon(2, 11, 2021)),
}  # fmt: skip


@pytest.mark.parametrize(
    ("secret", "ends", "provisional", "notice"), NOTICES.values(), ids=NOTICES.keys()
)
def test_what_the_owner_is_told_after_getting_in(
    voice: VoiceServer,
    store: Store,
    *,
    secret: str,
    ends: str | None,
    provisional: bool,
    notice: list[str],
) -> None:
    """R03, R07, R09: before the menu."""
    expires_at = datetime.fromisoformat(f"{ends}Z") if ends else None
    add_account(store, password=secret, expires_at=expires_at)
    if provisional:
        make_provisional(store)
    typed = f"{secret}#" if secret == OLD_CODE else secret
    assert heard(voice, NUMBER, typed) == ["numero", *PASSWORD_ASKED, *notice, *MENU]


EXPIRED = ["mot-de-passe-expire", *day(2, 11, 2021), "mot-de-passe-expire-suite"]

# What is typed when the password ends; what is heard.
EXPIRED_DIALOGUES = {
    "the right password": ([PASSWORD], [*EXPIRED, *PASSWORD_ASKED]),
    "and then a new one": (
        [PASSWORD, "#", "1"],
        [*EXPIRED, *PASSWORD_ASKED, "oubli-confirmer", "oubli-demande", *PASSWORD_ASKED],
    ),
    "another password (D07)": ([WRONG], ["identification-refusee", *PASSWORD_ASKED]),
}


@pytest.mark.parametrize(
    ("groups", "prompts"), EXPIRED_DIALOGUES.values(), ids=EXPIRED_DIALOGUES.keys()
)
def test_an_expired_password_is_told_with_its_day(
    voice: VoiceServer, store: Store, clock: FakeClock, groups: list[str], prompts: list[str]
) -> None:
    """R07, D07: only to who has it."""
    add_account(store, expires_at=clock.now)
    assert heard(voice, NUMBER, *groups) == ["numero", *PASSWORD_ASKED, *prompts]


@pytest.mark.parametrize(
    ("now", "prompts"),
    [(CUT_OVER - SECOND, ["numero"]), (CUT_OVER, CHANGED)],
    ids=["the second before", "at the cut-over"],
)
def test_the_login_changes_at_the_cut_over(
    after: Store, script: Script, clock: FakeClock, now: datetime, prompts: list[str]
) -> None:
    """R19, D10: by its date alone, on a server that goes on."""
    clock.now = now - timedelta(days=1)
    with running(after, script) as voice:
        assert heard(voice) == ["numero"]
        clock.now = now
        assert heard(voice) == prompts


def test_a_caller_in_the_middle_of_a_login_hears_of_the_cut_over(
    after: Store, script: Script, clock: FakeClock, hasher: CountingHasher
) -> None:
    """R19: the right password is not called wrong because it came a second too late."""
    add_account(after)
    clock.now = CUT_OVER - SECOND
    with running(after, script) as voice:
        with SimulatedCall(voice.address, groups=[CAISSE, NUMBER], patient=True) as call:
            call.wait_heard("mot-de-passe", END_SECONDS)
            clock.now = CUT_OVER
            call.type(PASSWORD)
            call.wait_heard("menu-touches", END_SECONDS)
        assert call.heard[-len(CHANGED) :] == CHANGED
    assert "identification-refusee" not in call.heard
    assert hasher.compared + hasher.pretended == 0


def test_without_another_way_in_there_is_the_web_and_an_adviser(
    after: Store, script: Script
) -> None:
    """D10: nothing is asked that opens nothing."""
    lines = [line for line in after.rules.transition if line.credential != "one-time-code"]
    closed = replace(after, rules=after.rules.model_copy(update={"transition": tuple(lines)}))
    with running(closed, script) as voice:
        assert heard(voice) == [
            *["identification-changee", "identification-caf-fr"],
            "transfert-conseiller",
        ]


# What is typed after the département, after the cut-over; what is heard after CHANGED.
NIR_DIALOGUES = {
    "0 leads to an adviser": (["0"], ["transfert-conseiller"]),
    "NIR, code, last payment": (
        ["1", KEYED, CODE, "1"],
        ["nir", "code-demande", "code", *MENU, *PAYMENT_HEARD, *MENU],
    ),
    "a digit of the NIR is wrong": (
        ["1", f"1{KEYED[1:]}", KEYED],
        ["nir", "nir-inconnu", "nir-2", "code-demande", "code"],
    ),
    "the NIR without its key": pytest.param(
        ["1", NIR], ["nir", "nir-inconnu", "nir-2"], marks=pytest.mark.silences
    ),
    "three silences": (
        ["1", "", "", ""],
        [
            *["nir", "rien-entendu", "nir-2", "rien-entendu", "nir-3", "rien-entendu"],
            "transfert-conseiller",
        ],
    ),
    "a code cut short": pytest.param(
        ["1", KEYED, "1234", CODE],
        ["nir", "code-demande", "code", "code-incomplet", "code-2", *MENU],
        marks=pytest.mark.silences,
    ),
    "a wrong code, then the right one": (
        ["1", KEYED, WRONG_CODE, CODE],
        ["nir", "code-demande", "code", "code-refuse", "code", *MENU],
    ),
    "three wrong codes": (
        ["1", KEYED, WRONG_CODE, "000000", "999999", CODE],
        [
            *["nir", "code-demande", "code", "code-refuse", "code", "code-refuse", "code"],
            *["code-refuse", "identification-impossible", "transfert-conseiller"],
        ],
    ),
    "the NIR of nobody: the same words (D04)": (
        ["1", UNKNOWN_KEYED, CODE, "000000", "999999"],
        [
            *["nir", "code-demande", "code", "code-refuse", "code", "code-refuse", "code"],
            *["code-refuse", "identification-impossible", "transfert-conseiller"],
        ],
    ),
    "`#` twice sends another code": (
        ["1", KEYED, "#", "#", CODE],
        ["nir", "code-demande", "code", "code-confirmer", "code-demande", "code", *MENU],
    ),
    "`#` once, and then the code, which begins with 1": (
        ["1", KEYED, "#", CODE],
        ["nir", "code-demande", "code", "code-confirmer", *MENU],
    ),
    "another code too often (R15)": (
        ["1", KEYED, *["##"] * 4, CODE],
        ["nir", *["code-demande", "code"] * 5, *MENU],
    ),
    "`*` goes back to the NIR": (
        ["1", UNKNOWN_KEYED, "*", KEYED, CODE],
        ["nir", "code-demande", "code", "nir", "code-demande", "code", *MENU],
    ),
    "a third NIR (D05)": (
        ["1", UNKNOWN_KEYED, "*", KEYED, "*", THIRD_KEYED],
        [
            *["nir", "code-demande", "code", "nir", "code-demande", "code", "nir"],
            *["identification-impossible", "transfert-conseiller"],
        ],
    ),
}


@pytest.mark.parametrize(("groups", "prompts"), NIR_DIALOGUES.values(), ids=NIR_DIALOGUES.keys())
def test_what_is_heard_after_the_cut_over(
    after: Store, script: Script, groups: list[str], prompts: list[str]
) -> None:
    """D04, D05, D10, D18."""
    add_paid_owner(after)
    with running(after, script) as voice:
        assert heard(voice, *groups) == [*CHANGED, *prompts]


@pytest.mark.usefixtures("unhurried")
def test_keys_of_the_old_login_typed_ahead_go_nowhere(after: Store, script: Script) -> None:
    """D18: a number that begins with 0 asks for no adviser; its digits are nobody's business."""
    add_paid_owner(after)
    with running(after, script) as voice:
        with SimulatedCall(voice.address, groups=[f"{CAISSE}{NUMBER}{PASSWORD}", HANG_UP]) as call:
            call.wait_end(END_SECONDS)
        assert "transfert-conseiller" not in call.heard


@pytest.mark.usefixtures("unhurried")
def test_a_nir_ended_with_a_hash_is_sent_one_code(after: Store, script: Script) -> None:
    """D04: many end a number with `#`."""
    add_paid_owner(after)
    with running(after, script) as voice:
        said = heard(voice, "1", f"{KEYED}#", CODE)
    assert said == [*CHANGED, "nir", "code-confirmer", *MENU]
    assert len(sent(after)) == 1


def test_nobody_can_tell_a_nir_by_what_it_does(after: Store, script: Script) -> None:
    """D04, D07: the same statements for a NIR on file and for another, a wrong code included."""
    add_paid_owner(after)
    done = []
    for nir in (KEYED, UNKNOWN_KEYED):
        statements = watch(after.database)
        with running(after, script) as voice:
            heard(voice, "1", nir, WRONG_CODE, "##")
            voice.stop(END_SECONDS)
        done.append(Counter(statements))
    assert done[0] == done[1]
    assert len(sent(after)) == 2  # both for the NIR on file


def test_a_nir_of_corse_is_keyed_without_its_letter(after: Store, script: Script) -> None:
    """D10: 2A is keyed 20, and the key tells which it is."""
    add_owner(after, owner=replace(HUGO, nir="170062A004011"))
    key = calc_check_digits("170062A004011")
    with running(after, script) as voice:
        assert heard(voice, "1", f"1700620004011{key}", CODE)[-len(MENU) :] == MENU


# Who logs in by a NIR, and what is heard of the payment (R26 to R30).
RIGHTS = {
    "the allocataire": (Role.ALLOCATAIRE, False, True),
    "a conjoint without delegation (R29)": (Role.CONJOINT, False, False),
    "a conjoint with delegation (R27)": (Role.CONJOINT, True, True),
    "a conjoint-allocataire (R28)": (Role.CONJOINT_ALLOCATAIRE, False, True),
    "a child over 15 (R30)": (Role.AUTRE, False, False),
}


@pytest.mark.parametrize(("role", "delegated", "told"), RIGHTS.values(), ids=RIGHTS.keys())
def test_what_a_person_is_told(
    after: Store, script: Script, role: Role, *, delegated: bool, told: bool
) -> None:
    """D11: rights are read at each access; who has none hears so, and goes on."""
    account_id = add_paid_owner(after)
    nir = KEYED
    if role is not Role.ALLOCATAIRE:
        person_id = add_person(after, account_id, HUGO, role)
        nir = HUGO_KEYED
        if delegated:
            execute(
                after,
                lambda t: t.execute(
                    update(Person).where(Person.id == person_id).values(delegated_at=CUT_OVER)
                ),
            )
    with running(after, script) as voice:
        said = PAYMENT_HEARD if told else ["acces-reserve"]
        prompts = ["nir", "code-demande", "code", *MENU, *said, *MENU]
        assert heard(voice, "1", nir, CODE, "1") == [*CHANGED, *prompts]


SEVERAL = [
    *["dossier-92", "tapez", "chiffre-1", "dossier-75", "tapez", "chiffre-2"],
    "menu-touches",
]
SAME_CAISSE = [
    *["dossier-75", "tapez", "chiffre-1", "dossier-autre", "tapez", "chiffre-2"],
    "menu-touches",
]
NOTHING_PAID = ["aucun-paiement", *MENU]

# Where the newer dossier is; what is typed after the code; what is heard; the caisse of the call.
CHOICES = {
    "the newer one": (OTHER_CAISSE, ["1", "1"], [*SEVERAL, *MENU, *NOTHING_PAID], OTHER_CAISSE),
    "the older one": (OTHER_CAISSE, ["2", "1"], [*SEVERAL, *MENU, *PAYMENT_HEARD, *MENU], CAISSE),
    "there is no third": (
        OTHER_CAISSE,
        ["3", "1"],
        [*SEVERAL, "choix-inconnu", *SEVERAL, *MENU],
        OTHER_CAISSE,
    ),
    "an adviser, of the caisse keyed": (
        OTHER_CAISSE,
        ["0"],
        [*SEVERAL, "transfert-conseiller"],
        CAISSE,
    ),
    "two of one caisse": (CAISSE, ["2", "1"], [*SAME_CAISSE, *MENU, *PAYMENT_HEARD, *MENU], CAISSE),
}


@pytest.mark.parametrize(
    ("newer_at", "typed", "prompts", "caisse"), CHOICES.values(), ids=CHOICES.keys()
)
def test_a_person_with_several_dossiers_chooses_by_caisse(
    after: Store,
    script: Script,
    clock: FakeClock,
    *,
    newer_at: str,
    typed: list[str],
    prompts: list[str],
    caisse: str,
) -> None:
    """D11: the newer first; advisers are those of the dossier's caisse."""
    add_paid_owner(after)
    clock.advance(SECOND)
    newer = add_owner(after, OTHER_NUMBER)
    execute(
        after,
        lambda t: t.execute(update(Account).where(Account.id == newer).values(caisse=newer_at)),
    )
    with running(after, script) as voice:
        said = heard(voice, "1", KEYED, CODE, *typed)
        assert said == [*CHANGED, "nir", "code-demande", "code", *prompts]
        assert last_call(after, voice)[1] == caisse


def test_neither_nir_nor_code_is_shown_or_recorded(after: Store, script: Script) -> None:
    """D13: not in the call's record, and hidden from who watches the dialogue."""
    add_paid_owner(after)
    trace = Watcher()
    server = VoiceServer(after, script, trace=lambda _: trace)
    server.start()
    heard(server, "1", KEYED, CODE)
    server.stop(END_SECONDS)
    assert trace.seen == [CAISSE, "1", "*" * 15, "*" * 6]
    [record] = records(after)
    assert record.outcome == "authenticated"
    assert record.number_pseudonym is None
    assert NIR not in str(record.steps)


class Watcher:
    """Sees what `svi call` would show of the keys."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def said(self, text: str) -> None:
        """Nothing is asked of what is said."""

    def keyed(self, keys: str) -> None:
        self.seen.append(keys)

    def ended(self, outcome: str) -> None:
        """Nor of the end."""


VOICE = incident.CHANNEL + Channel.VOICE
WEB = incident.CHANNEL + Channel.WEB
HERE = incident.CAISSE + CAISSE
ELSEWHERE = incident.CAISSE + OTHER_CAISSE

# What is closed; what is heard after the département (D15), and the record's outcome.
CLOSINGS = {
    "the whole service": (incident.SERVICE, ANNOUNCED, "closed"),
    "the telephone": (VOICE, ANNOUNCED, "closed"),
    "the caisse": (HERE, ANNOUNCED, "closed"),
    "the web": (WEB, ["numero"], "abandoned"),
    "another caisse": (ELSEWHERE, ["numero"], "abandoned"),
}


@pytest.mark.parametrize(("scope", "prompts", "outcome"), CLOSINGS.values(), ids=CLOSINGS.keys())
def test_an_incident_is_announced_before_anything_is_keyed_in_vain(
    voice: VoiceServer, store: Store, scope: str, prompts: list[str], outcome: str
) -> None:
    """D15: and then an adviser, who stays open."""
    incident.raise_incident(store, scope)
    assert heard(voice) == prompts
    assert last_call(store, voice)[0] == outcome


def test_callers_log_in_again_when_an_incident_is_lifted(voice: VoiceServer, store: Store) -> None:
    add_account(store)
    incident.raise_incident(store, VOICE)
    incident.lift(store, VOICE)
    assert heard(voice, NUMBER, PASSWORD)[-len(MENU) :] == MENU


@pytest.mark.parametrize("scope", [incident.SERVICE, VOICE, HERE])
def test_an_incident_in_the_menu_is_announced_at_the_next_access(
    voice: VoiceServer, store: Store, scope: str
) -> None:
    """D15: never a plain apology, and nothing of the dossier."""
    add_dossier(store)
    said = after_menu(voice, lambda: incident.raise_incident(store, scope), ANNOUNCED[-1])
    assert said == ANNOUNCED
    assert last_call(store, voice)[0] == "closed"


def test_a_session_that_is_too_old_is_told_so(
    voice: VoiceServer, store: Store, clock: FakeClock
) -> None:
    """Who stays in the menu for an hour identifies anew; nothing broke."""
    add_dossier(store)
    said = after_menu(
        voice, lambda: clock.advance(timedelta(minutes=60)), "identification-terminee"
    )
    assert said == ["identification-terminee", "numero"]
    assert last_call(store, voice)[0] == "authenticated"


def test_a_session_of_the_last_second_is_good(
    voice: VoiceServer, store: Store, clock: FakeClock
) -> None:
    add_dossier(store)
    said = after_menu(
        voice, lambda: clock.advance(timedelta(minutes=60) - SECOND), "dernier-paiement"
    )
    assert said[0] == "dernier-paiement"


def test_an_incident_while_a_password_is_compared_is_announced(
    voice: VoiceServer, store: Store, hasher: CountingHasher
) -> None:
    """D15: the right password is neither wrong nor let in."""
    add_dossier(store)
    hasher.meanwhile = lambda: incident.raise_incident(store, HERE)
    said = heard(voice, NUMBER, PASSWORD)
    assert said == ["numero", *PASSWORD_ASKED, *ANNOUNCED]


def test_an_incident_while_a_password_is_typed_is_announced(
    voice: VoiceServer, store: Store
) -> None:
    add_dossier(store)
    with SimulatedCall(voice.address, groups=[CAISSE, NUMBER], patient=True) as call:
        call.wait_heard("mot-de-passe", END_SECONDS)
        incident.raise_incident(store, VOICE)
        call.type(PASSWORD)
        call.wait_end(END_SECONDS)
    assert call.heard[-2:] == ANNOUNCED
    assert call.variables == {"SVI_NEXT": "adviser", "SVI_PLATFORM": f"caisse-{CAISSE}"}


def test_an_incident_while_a_password_is_asked_for_is_announced(
    voice: VoiceServer, store: Store
) -> None:
    """D15: « mot de passe oublié » sends nothing, and says so to everybody."""
    add_account(store)
    for number in (NUMBER, OTHER_NUMBER):
        with SimulatedCall(voice.address, groups=[CAISSE, number, "#"], patient=True) as call:
            call.wait_heard("oubli-confirmer", END_SECONDS)
            incident.raise_incident(store, HERE)
            call.type("1")
            call.wait_end(END_SECONDS)
            incident.lift(store, HERE)
        assert call.heard[-2:] == ANNOUNCED
        assert "oubli-demande" not in call.heard
    assert sent(store) == []
    assert last_call(store, voice)[0] == "closed"


@pytest.mark.parametrize("scope", [incident.SERVICE, VOICE, HERE])
def test_an_incident_while_a_nir_is_typed_is_announced(
    after: Store, script: Script, scope: str
) -> None:
    """D15: no code is sent, whether the NIR is on file or not (D04)."""
    add_paid_owner(after)
    with running(after, script) as voice:
        for nir in (KEYED, UNKNOWN_KEYED):
            with SimulatedCall(voice.address, groups=[CAISSE, "1"], patient=True) as call:
                call.wait_heard("nir", END_SECONDS)
                incident.raise_incident(after, scope)
                call.type(nir)
                call.wait_end(END_SECONDS)
                incident.lift(after, scope)
            assert call.heard[-2:] == ANNOUNCED
            assert "code-demande" not in call.heard
    assert sent(after) == []


def test_an_incident_while_a_code_is_awaited_is_announced(after: Store, script: Script) -> None:
    """D15: the code is not called wrong."""
    add_paid_owner(after)
    groups = [CAISSE, "1", KEYED]
    with (
        running(after, script) as voice,
        SimulatedCall(voice.address, groups=groups, patient=True) as call,
    ):
        call.wait_heard("code", END_SECONDS)
        incident.raise_incident(after, HERE)
        call.type(CODE)
        call.wait_end(END_SECONDS)
    assert call.heard[-2:] == ANNOUNCED
    assert "code-refuse" not in call.heard


def test_an_incident_while_a_dossier_is_chosen_is_announced(
    after: Store, script: Script, clock: FakeClock
) -> None:
    """D15: whichever step finds the session closed."""
    add_paid_owner(after)
    clock.advance(SECOND)
    add_owner(after, OTHER_NUMBER)
    groups = [CAISSE, "1", KEYED, CODE]
    with (
        running(after, script) as voice,
        SimulatedCall(voice.address, groups=groups, patient=True) as call,
    ):
        call.wait_heard("dossier-autre", END_SECONDS)
        incident.raise_incident(after, incident.SERVICE)
        call.type("11")
        call.wait_end(END_SECONDS)
    assert call.heard[-2:] == ANNOUNCED
