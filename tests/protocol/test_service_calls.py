"""What callers hear of their dossier after login, service by service and role by role (R26 to R38).

What is typed after the login and what is heard from the main menu on stand in labelled tables.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import delete, select, update
from stdnum.fr.nir import calc_check_digits

from ivr.handlers.menu import Menu
from ivr.handlers.service import Service
from ivr.script import Script
from ivr.simulated import HANG_UP, SimulatedCall
from shared import processing_delays
from shared.dossier_data import (
    ALERTS,
    MOST_TOGETHER,
    PAYMENTS,
    SECTIONS,
    DelaysLine,
    Dossier,
    DossierLine,
    DossierSource,
    Reading,
    Section,
)
from shared.dossier_data import DELAYS as DELAYS_TYPE
from shared.errors import UnavailableError
from shared.models import (
    Account,
    AuditEntry,
    DossierSection,
    Person,
    ProcessingDelay,
    Role,
)
from shared.store import Store
from tests.store import CAISSE, NUMBER, PASSWORD, FakeClock, add_account, execute, tell
from tests.telephony import MENU, rules_of_the_cut_over, running
from tests.web import HUGO, HUGO_NIR, NIR, add_dossier, add_person

END_SECONDS = 60.0
CODE = "123456"

TOLD: dict[str, list[dict[str, Any]]] = {
    "payments": [
        {"paid_on": "2021-10-05", "cents": 20_000, "payee": "bailleur"},
        {"paid_on": "2021-11-01", "cents": 8_050, "payee": "vous",
         "withheld": [{"cents": 1_000, "reason": "trop-percu"},
                      {"cents": 200, "reason": "saisie"}]},
    ],
    "rights": [
        {"code": "alf", "since": "2020-01-02", "ended_on": "2021-09-30", "reason": "demenagement"},
        {"code": "rsa", "since": "2021-02-01"},
    ],
    "quotient": [{"value": 812, "month": "2021-10"}],
    "claims": [{"category": "naissance", "received_on": "2021-10-20", "state": "en-cours",
                "expected_by": "2021-11-20"}],
    "requests": [{"document": "rib"}, {"document": "attestation-loyer", "before": "2021-11-30"}],
    "certificates": [{"kind": "paiement", "months": ["2021-09", "2021-10"]}],
    "debts": [{"code": "rsa", "left": 24_000, "monthly": 3_500}],
    "appointments": [
        {"at": "2021-11-02T10:25:00+01:00", "place": "domicile"},  # five minutes ago
        {"at": "2021-11-12T14:30:00+01:00", "place": "accueil"},
    ],
    "letters": [{"code": "droits", "sent_on": "2021-10-02"}],
    "alerts": [
        {"code": "coordonnees"},
        {"code": "declaration-trimestrielle", "before": "2021-11-02"},
        {"code": "declaration-ressources", "before": "2021-11-01"},  # yesterday
        {"code": "document-attendu", "before": "2021-12-31"},
        {"code": "controle"},
    ],
}  # fmt: skip
DELAYS = [
    {"category": "rsa-aah", "first": "2021-10-01", "last": "2021-10-08"},
    {"category": "courriels", "first": "2021-10-30", "last": "2021-11-02"},
]
AS_OF = "2021-11-02T04:00:00+01:00"


@pytest.fixture(autouse=True)
def _unhurried(unhurried: None) -> None:
    """Everything that is typed comes before the answer of the store."""


@pytest.fixture
def shop(store: Store) -> Store:
    """A store with a dossier of which everything was told but its alerts, and with delays."""
    account_id = add_account(store)
    judge = Reading(store.rules.dossier, store.clock())
    head = {"caisse": CAISSE, "as_of": AS_OF}
    line = DossierLine.model_validate(
        {**head, "number": NUMBER, **TOLD}, context=judge, strict=False
    )
    for section in SECTIONS:
        tell(store, account_id, section, getattr(line, section.name))
    delays = DelaysLine.model_validate({**head, "delays": DELAYS}, context=judge, strict=False)
    with store.database.begin() as transaction:
        processing_delays.keep(store, transaction, [delays])
    forget(store, "alerts")
    return store


def forget(store: Store, *sections: str) -> None:
    rows = delete(DossierSection).where(DossierSection.section.in_(sections))
    execute(store, lambda t: t.execute(rows))


def heard(store: Store, script: Script, *keys: str) -> list[str]:
    """Log in and type, group by group; give what is heard from the end of the login on."""
    with running(store, script) as voice:
        groups = [f"{CAISSE}{NUMBER}", PASSWORD, *keys, HANG_UP]
        with SimulatedCall(voice.address, groups=groups) as call:
            call.wait_end(END_SECONDS)
    return call.heard[call.heard.index("mot-de-passe") + 1 :]


def menu(*choices: str) -> list[str]:
    spoken = [
        prompt
        for key, choice in enumerate(choices, 1)
        for prompt in (choice, "tapez", f"chiffre-{key}")
    ]
    return [*spoken, "menu-touches-retour"]


MONEY = menu("choix-paiements", "choix-droits", "choix-quotient", "choix-attestations")
CLAIMS = menu("choix-demandes", "choix-documents", "choix-delais")
CONTACT = menu("choix-rendez-vous", "choix-courriers", "choix-dettes")
ON = ["liste-suivant", "tapez", "chiffre-1"]
BACK = ["liste-precedent", "tapez", "chiffre-2"]
KEYS = ["menu-touches-retour"]


def day(number: int, month: int, year: int = 21) -> list[str]:
    said = "premier" if number == 1 else f"nombre-{number}"
    return ["le", said, f"mois-{month}", "nombre-2", "mille", f"nombre-{year}"]


PAID = [
    *["paiement", "nombre-80", "euros", "et", "nombre-50", "centimes", *day(1, 11)],
    *["destinataire-vous", "paiement-retenue", "nombre-10", "euros", "retenue-trop-percu"],
    *["paiement-retenue", "nombre-2", "euros", "retenue-saisie"],
]
PAID_BEFORE = [
    *["paiement", "nombre-2", "cents", "euros", *day(5, 10), "destinataire-bailleur"],
]
RSA = ["droit-rsa", "depuis", *day(1, 2)]
ALF = ["droit-alf", "depuis", *day(2, 1, 20), "droit-termine", *day(30, 9), "motif-demenagement"]
QUOTIENT = [
    *["quotient-familial", "nombre-8", "cent", "nombre-12"],
    *["en", "mois-10", "nombre-2", "mille", "nombre-21"],
]
CERTIFICATE = [
    *["attestations-ou", "attestation-paiement"],
    *["attestation-recente", "mois-10", "nombre-2", "mille", "nombre-21"],
]
CLAIM = [
    *["demande-naissance", "recue", *day(20, 10), "etat-en-cours"],
    *["reponse-avant", *day(20, 11)],
]
DOCUMENT = ["document-attestation-loyer", "avant", *day(30, 11)]
DELAYS_TOLD = [
    *["traitement-rsa-aah", *day(1, 10), "et", *day(8, 10)],
    *["traitement-courriels", *day(30, 10), "et", *day(2, 11)],
]
APPOINTMENT = [
    *["rendez-vous", *day(12, 11), "a", "nombre-14", "heures", "nombre-30", "lieu-accueil"],
]
LETTER = ["courriers-ou", "courrier-droits", "courrier-envoye", *day(2, 10)]
DEBT = [
    *["dette-rsa", "dette-reste", "nombre-2", "cent", "nombre-40", "euros"],
    *["dette-mensualite", "nombre-35", "euros", "par-mois"],
]

# What is typed, group by group, after the password; what is heard after it.
SERVICES = {
    "payments, the newest first": (["2", "1"], [*MENU, *MONEY, *PAID, *ON, *KEYS]),
    "earlier, and back": (
        ["2", "1", "1", "2"],
        [
            *[*MENU, *MONEY, *PAID, *ON, *KEYS],
            *[*PAID_BEFORE, *BACK, *KEYS, *PAID, *ON, *KEYS],
        ],
    ),
    "a payment again": (
        ["2", "1", "9"],
        [*MENU, *MONEY, *PAID, *ON, *KEYS, *PAID, *ON, *KEYS],
    ),
    "there is none before the first": (
        ["2", "1", "2"],
        [*MENU, *MONEY, *PAID, *ON, *KEYS, "choix-inconnu", *PAID, *ON, *KEYS],
    ),
    "from a list to the menu, and to the one above": (
        ["2", "1", "*", "*"],
        [*MENU, *MONEY, *PAID, *ON, *KEYS, *MONEY, *MENU],
    ),
    "from a list to an adviser": (
        ["2", "1", "0"],
        [*MENU, *MONEY, *PAID, *ON, *KEYS, "transfert-conseiller"],
    ),
    "rights, those in progress first": (
        ["2", "2", "1"],
        [*MENU, *MONEY, *RSA, *ON, *KEYS, *ALF, *BACK, *KEYS],
    ),
    "quotient familial": (["2", "3"], [*MENU, *MONEY, *QUOTIENT, *MONEY]),
    "certificates": (["2", "4"], [*MENU, *MONEY, *CERTIFICATE, *MONEY]),
    "claims": (["3", "1"], [*MENU, *CLAIMS, *CLAIM, *CLAIMS]),
    "what the Caf needs, the most urgent first": (
        ["3", "2", "1"],
        [
            *[*MENU, *CLAIMS, "documents-attendus", *DOCUMENT, *ON, *KEYS],
            *["document-rib", *BACK, *KEYS],
        ],
    ),
    "delays": (["3", "3"], [*MENU, *CLAIMS, *DELAYS_TOLD, *CLAIMS]),
    "appointments, not those that are over": (
        ["4", "1"],
        [*MENU, *CONTACT, *APPOINTMENT, *CONTACT],
    ),
    "letters": (["4", "2"], [*MENU, *CONTACT, *LETTER, *CONTACT]),
    "debts": (["4", "3"], [*MENU, *CONTACT, *DEBT, *CONTACT]),
    "keys typed ahead skip what is said": (["211"], [*MENU, *PAID_BEFORE, *BACK, *KEYS]),
}  # fmt: skip


@pytest.mark.parametrize(("typed", "prompts"), SERVICES.values(), ids=SERVICES)
def test_what_is_heard_of_a_dossier(
    shop: Store, script: Script, typed: list[str], prompts: list[str]
) -> None:
    """R38, D17, D18."""
    assert heard(shop, script, *typed) == prompts


# What is typed, and what is heard where there is nothing, by section
NOTHING = {
    "payments": (["2", "1"], "aucun-paiement"),
    "rights": (["2", "2"], "aucun-droit"),
    "quotient": (["2", "3"], "aucun-quotient"),
    "certificates": (["2", "4"], "aucune-attestation"),
    "claims": (["3", "1"], "aucune-demande"),
    "requests": (["3", "2"], "aucun-document"),
    "appointments": (["4", "1"], "aucun-rendez-vous"),
    "letters": (["4", "2"], "aucun-courrier"),
    "debts": (["4", "3"], "aucune-dette"),
}
MENU_OF = {"2": MONEY, "3": CLAIMS, "4": CONTACT}
OF_A_FIRST_CLAIM = {"payments", "rights", "claims", "requests"}  # R32


def answer(typed: list[str], prompt: str) -> list[str]:
    """Give what is heard of a service that says one thing: the menu comes again."""
    return [*MENU, *MENU_OF[typed[0]], prompt, *MENU_OF[typed[0]]]


def test_every_section_but_the_alerts_has_its_service() -> None:
    assert {*NOTHING, "alerts"} == {section.name for section in SECTIONS}


@pytest.mark.parametrize(("name", "typed", "none"), [(n, *row) for n, row in NOTHING.items()])
def test_there_may_be_nothing(
    shop: Store, script: Script, name: str, typed: list[str], none: str
) -> None:
    with shop.database.read() as transaction:
        account_id = transaction.scalars(select(Account.id)).one()
    (section,) = [section for section in SECTIONS if section.name == name]
    tell(shop, account_id, section, ())
    assert heard(shop, script, *typed) == answer(typed, none)


@pytest.mark.parametrize(("name", "typed"), [(name, keys) for name, (keys, _) in NOTHING.items()])
def test_what_nobody_told_is_not_available(
    shop: Store, script: Script, name: str, typed: list[str]
) -> None:
    """It is not said that there is none."""
    forget(shop, name)
    assert heard(shop, script, *typed) == answer(typed, "information-indisponible")


class _Away(DossierSource):
    """A source that is out of reach."""

    def read(self, dossier: Dossier, section: Section[Any]) -> Any:
        raise UnavailableError(f"{section} of {dossier.caisse}")


@pytest.mark.parametrize("typed", [keys for keys, _ in NOTHING.values()], ids=[*NOTHING])
def test_a_source_that_is_away_is_told_and_the_call_goes_on(
    shop: Store, script: Script, typed: list[str]
) -> None:
    away = replace(shop, dossiers=_Away())
    assert heard(away, script, *typed) == answer(typed, "information-indisponible")
    assert heard(away, script, "1") == [*MENU, "information-indisponible", *MENU]


@pytest.mark.parametrize(("name", "typed", "none"), [(n, *row) for n, row in NOTHING.items()])
def test_of_a_first_claim_some_services_are_open(
    shop: Store, script: Script, name: str, typed: list[str], none: str
) -> None:
    """R32: the claim is followed; what is closed says so."""
    execute(shop, lambda t: t.execute(update(Account).values(situation="primo-demandeur")))
    after_menus = heard(shop, script, *typed)[len(MENU) + len(MENU_OF[typed[0]]) :]
    assert (after_menus[0] == "acces-plus-tard") is (name not in OF_A_FIRST_CLAIM)
    assert none not in after_menus


# Who logs in by a NIR, and whether they are told what is in the dossier (R26 to R31).
ROLES = {
    "the allocataire": (Role.ALLOCATAIRE, False, True),
    "a conjoint without delegation (R29)": (Role.CONJOINT, False, False),
    "a conjoint with delegation (R27)": (Role.CONJOINT, True, True),
    "a conjoint-allocataire (R28)": (Role.CONJOINT_ALLOCATAIRE, False, True),
    "a child over 15 (R30)": (Role.AUTRE, False, False),
    "a guardian (R31)": (Role.TUTEUR, False, True),
}
ALL_SERVICES = ["21", "2", "3", "4", "*", "31", "2", "*", "41", "2", "3"]  # as NOTHING has them


@pytest.fixture
def after(store: Store, tmp_path: Path, clock: FakeClock) -> Store:
    """The store after the cut-over, where every code is the same."""
    clock.now = datetime(2022, 3, 31, 22, tzinfo=UTC)
    return replace(store, rules=rules_of_the_cut_over(tmp_path), chance=lambda _: int(CODE))


def heard_by(store: Store, script: Script, nir: str, *keys: str) -> list[str]:
    """Log in by a NIR and type; give what is heard after the code."""
    with running(store, script) as voice:
        keyed = [CAISSE, "1", nir + calc_check_digits(nir), CODE]
        with SimulatedCall(voice.address, groups=[*keyed, *keys, HANG_UP]) as call:
            call.wait_end(END_SECONDS)
    return call.heard[call.heard.index("code") + 1 :]


def add_member(store: Store, account_id: UUID, role: Role, *, delegated: bool) -> str:
    """Add somebody to Claire's dossier, or mean herself; give the NIR."""
    if role is Role.ALLOCATAIRE:
        return NIR
    person_id = add_person(store, account_id, HUGO, role)
    given = update(Person).where(Person.id == person_id).values(delegated_at=store.clock())
    if delegated:
        execute(store, lambda t: t.execute(given))
    return HUGO_NIR


@pytest.mark.parametrize(("role", "delegated", "allowed"), ROLES.values(), ids=ROLES)
def test_what_each_member_of_a_household_is_told(
    after: Store, script: Script, role: Role, *, delegated: bool, allowed: bool
) -> None:
    account_id = add_dossier(after)
    for section in SECTIONS:
        tell(after, account_id, section, ())
    nir = add_member(after, account_id, role, delegated=delegated)
    prompts = heard_by(after, script, nir, *ALL_SERVICES)
    answers = {"acces-reserve", *(none for _, none in NOTHING.values())}
    expected = [none if allowed else "acces-reserve" for _, none in NOTHING.values()]
    assert [prompt for prompt in prompts if prompt in answers] == expected


def test_delays_are_told_to_everybody(shop: Store, script: Script) -> None:
    """They are in nobody's dossier; without any, that is said."""
    execute(shop, lambda t: t.execute(update(Account).values(situation="primo-demandeur")))
    assert heard(shop, script, "3", "3") == [*MENU, *CLAIMS, *DELAYS_TOLD, *CLAIMS]
    execute(shop, lambda t: t.execute(update(ProcessingDelay).values(delays="[]")))
    assert heard(shop, script, "3", "3") == answer(["3"], "aucun-delai")
    execute(shop, lambda t: t.execute(delete(ProcessingDelay)))
    assert heard(shop, script, "3", "3") == answer(["3"], "information-indisponible")


# Alerts

ALERTED = [
    *["alerte-declaration-trimestrielle", "avant", *day(2, 11)],
    *["alerte-document-attendu", "avant", *day(31, 12)],
    "alerte-coordonnees",
]


def tell_alerts(store: Store, account_id: UUID, *alerts: Mapping[str, str]) -> None:
    judge = Reading(store.rules.dossier, store.clock())
    told = ALERTS.adapter.validate_python(alerts, context=judge, strict=False)
    tell(store, account_id, ALERTS, told)


def account_of(store: Store) -> UUID:
    with store.database.read() as transaction:
        return transaction.scalars(select(Account.id)).one()


def test_alerts_are_said_right_after_login(shop: Store, script: Script) -> None:
    """The three most urgent, none that is over; the key for the menu may be typed ahead."""
    tell_alerts(shop, account_of(shop), *TOLD["alerts"])
    assert heard(shop, script) == [*ALERTED, *MENU]
    assert heard(shop, script, "2") == [*ALERTED, *MENU, *MONEY]


def test_an_alert_is_over_after_its_day_in_paris(
    shop: Store, script: Script, clock: FakeClock
) -> None:
    tell_alerts(shop, account_of(shop), {"code": "controle", "before": "2021-11-02"})
    clock.now = datetime(2021, 11, 2, 22, 59, tzinfo=UTC)
    assert heard(shop, script)[0] == "alerte-controle"
    clock.now = datetime(2021, 11, 2, 23, tzinfo=UTC)
    assert heard(shop, script) == MENU


@pytest.mark.parametrize("allowed", [True, False])
def test_alerts_that_may_not_be_told_are_passed_over(
    after: Store, script: Script, *, allowed: bool
) -> None:
    """Nobody asked: nothing is said, and no refused access is audited (R29, D15)."""
    account_id = add_dossier(after)
    tell_alerts(after, account_id, {"code": "controle"})
    nir = add_member(after, account_id, Role.CONJOINT, delegated=allowed)
    alerts = ["alerte-controle"] if allowed else []
    assert heard_by(after, script, nir) == [*alerts, *MENU]
    with after.database.read() as transaction:
        events = set(transaction.scalars(select(AuditEntry.event)))
    assert events & {"read-alerts", "access-refused"} == ({"read-alerts"} if allowed else set())


def test_every_service_is_audited(shop: Store, script: Script) -> None:
    """D15: by what was read, in the call that read it."""
    for keys, _ in NOTHING.values():
        heard(shop, script, *keys)
    with shop.database.read() as transaction:
        events = set(transaction.scalars(select(AuditEntry.event)))
    assert {f"read-{name}" for name in NOTHING} <= events


@pytest.mark.parametrize("typed", [keys for keys, _ in NOTHING.values()], ids=[*NOTHING])
def test_a_session_that_ends_in_mid_call_opens_nothing(
    shop: Store, script: Script, typed: list[str]
) -> None:
    """D15."""
    with running(shop, script) as voice:
        groups = [f"{CAISSE}{NUMBER}", PASSWORD]
        with SimulatedCall(voice.address, groups=groups, patient=True) as call:
            call.wait_heard("menu-touches", END_SECONDS)
            execute(shop, lambda t: t.execute(update(Account).values(epoch=Account.epoch + 1)))
            call.type("".join(typed))
            call.wait_heard("identification-terminee", END_SECONDS)


def test_the_longest_that_can_be_told_is_one_command(shop: Store, script: Script) -> None:
    """Asterisk reads no command beyond 2,048 bytes: such an item would end in an apology."""
    most = 99_999_797  # a longest amount: nearly a million euros
    withheld = [{"cents": most, "reason": "pension-alimentaire"}] * MOST_TOGETHER
    payment = {"paid_on": "2021-09-21", "cents": most, "payee": "etablissement"}
    alert = {"code": "declaration-trimestrielle", "before": "2021-12-21"}
    delay = {"category": "autres-demandes", "first": "2021-09-21", "last": "2021-10-21"}
    judge, account_id = Reading(shop.rules.dossier, shop.clock()), account_of(shop)
    longest: list[tuple[Section[Any], list[Any]]] = [
        (PAYMENTS, [{**payment, "withheld": withheld}] * 3),
        (ALERTS, [alert] * MOST_TOGETHER),
    ]
    for section, items in longest:
        told = section.adapter.validate_python(items, context=judge, strict=False)
        tell(shop, account_id, section, told)
    delays = DELAYS_TYPE.validate_python([delay] * MOST_TOGETHER, context=judge, strict=False)
    kept = DELAYS_TYPE.dump_json(delays).decode()
    execute(shop, lambda t: t.execute(update(ProcessingDelay).values(delays=kept)))
    prompts = heard(shop, script, "2", "1", "1", "*", "*", "3", "3")
    assert prompts.count("retenue-pension-alimentaire") == 2 * MOST_TOGETHER
    assert prompts.count("traitement-autres-demandes") == MOST_TOGETHER
    assert "excuse-technique" not in prompts


def test_any_service_is_two_keys_away(script: Script) -> None:
    """D18: from the main menu, in menus of four choices at most."""
    services = {name for name, step in script.steps.items() if isinstance(step, Service)}
    reached, level = set[str](), {"main_menu"}
    for _ in range(2):
        menus = [step for name in level if isinstance(step := script.steps[name], Menu)]
        level = {choice.goto for menu in menus for choice in menu.choices}
        reached |= level
    assert services <= reached
