"""The life of a credential on real calls: the old code, the cut-over."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from sqlalchemy import update
from stdnum.fr.nir import calc_check_digits

from shared.models import Credential
from tests.acceptance.caller import HangUp, Pause, Step, Type, WaitForEnd
from tests.acceptance.conftest import Service, running_service
from tests.acceptance.machine import wait_until
from tests.store import CAISSE, PASSWORD, add_account, execute
from tests.telephony import MENU, records, rules_of_the_cut_over
from tests.web import NIR
from tests.web import add_dossier as add_owner

CODE = "123456"


@pytest.fixture(scope="module")
def after(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service whose cut-over lies behind it, as that of the example does."""
    home = tmp_path_factory.mktemp("cut-over")
    rules = rules_of_the_cut_over(home)
    with running_service(home, rules=rules, chance=lambda _: int(CODE)) as service:
        yield service


def typing(*answers: str) -> list[Step]:
    """Type each answer after listening for a while."""
    return [step for answer in answers for step in (Pause(0.7), Type(answer))]


def test_the_old_code_gets_in_and_is_to_be_replaced(service: Service) -> None:
    """R03, D09."""
    add_account(service.store, "5000001", password="4821")
    result = service.call(
        *typing(CAISSE, "5000001", "4821#"), Pause(3), HangUp(), caller="0199000101"
    )
    at = result.heard.index("code-a-remplacer")
    assert result.heard[at + 1 : at + 1 + len(MENU)] == MENU


def test_a_provisional_password_is_announced_with_its_day(service: Service) -> None:
    """R09."""
    account_id = add_account(
        service.store, "5000002", expires_at=datetime(2041, 5, 1, 9, tzinfo=UTC)
    )
    of_account = update(Credential).where(Credential.account_id == account_id)
    execute(service.store, lambda t: t.execute(of_account.values(provisional=True)))
    result = service.call(
        *typing(CAISSE, "5000002", PASSWORD), Pause(3), HangUp(), caller="0199000102"
    )
    at = result.heard.index("mot-de-passe-provisoire")
    day = ["le", "premier", "mois-5", "nombre-2", "mille", "nombre-41"]
    assert result.heard[at + 1 : at + 8] == [*day, "mot-de-passe-a-changer"]


def test_after_the_cut_over_a_nir_and_a_code_by_sms_get_in(after: Service) -> None:
    """D10, R19: neither is left in a log, an event or the call's record (D13)."""
    add_owner(after.store)
    keyed = NIR + calc_check_digits(NIR)
    result = after.call(*typing(CAISSE, "1", keyed, CODE, "1"), Pause(1), Type("*"), WaitForEnd(10))
    heard = iter(result.heard)
    wanted = [
        *["identification-changee", "choix-nir", "nir", "code-demande", "code"],
        *[*MENU[:1], "aucun-paiement", "au-revoir"],
    ]
    assert [prompt for prompt in wanted if prompt not in heard] == []
    wait_until(lambda: records(after.store))
    assert records(after.store)[-1].outcome == "authenticated"
    written = [
        path.read_bytes()
        for path in after.home.rglob("*")
        if path.is_file() and path.suffix != ".wav"
    ]
    for content in (*written, bytes(after.witness.seen)):
        assert NIR.encode() not in content
        assert " ".join(keyed).encode() not in content
