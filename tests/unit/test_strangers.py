"""What strangers do on the telephone takes nothing from the owner of a dossier (D03, D05)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count, permutations

import pytest

from shared.credentials import Refusal
from shared.models import CredentialOrigin, Route
from shared.origin import Origin
from shared.resets import Terms, issue, request_password
from shared.rules import Channel
from shared.sessions import Session
from shared.store import Store
from tests.store import CAISSE, NUMBER, OWNER, PASSWORD, FakeClock, add_account, log_in
from tests.web import sent

CODE = "4826"
WRONG = "16042738"
OF_AN_ACCOUNT = 5  # failures a day from unknown callers
OF_A_CALLER = 10  # failures a day from one caller id
MALLORY, MALLORYS_NUMBER, MALLORYS_PASSWORD = "+33177000000", "7654321", "50718264"
HOUR = timedelta(hours=1)


@dataclass
class Household:
    """A dossier with the old code only, its owner's telephone, and strangers who call."""

    store: Store
    number: str
    telephone: str
    sent: dict[Route, str] = field(default_factory=dict)  # passwords on their way to the owner
    strangers: "count[int]" = field(default_factory=count)

    def gets_in(self, secret: str) -> bool:
        """Say whether the owner gets in by the telephone on file."""
        opened = log_in(self.store, secret, number=self.number, caller_id=self.telephone)
        return isinstance(opened, Session)

    def a_stranger_asks_for_a_password(self) -> None:
        origin = Origin(Channel.VOICE, self._stranger())
        request_password(self.store, CAISSE, self.number, origin)
        self._keep(Route.SMS)

    def a_letter_goes_out(self) -> None:
        """An agent has a provisional password sent by post, for the owner (R09)."""
        terms = Terms(
            CredentialOrigin.AGENT, provisional=True, by_post=True, decide=lambda *_: True
        )
        issue(self.store, CAISSE, self.number, Origin(Channel.AGENT), terms)
        self._keep(Route.LETTER)

    def strangers_lock_it(self) -> None:
        for _ in range(OF_AN_ACCOUNT):
            log_in(self.store, WRONG, number=self.number, caller_id=self._stranger())
        for right in (CODE, *self.sent.values()):
            locked = log_in(self.store, right, number=self.number, caller_id=self._stranger())
            assert locked is Refusal.REFUSED

    def the_owner_uses_the_code(self) -> None:
        assert self.gets_in(CODE)

    def _stranger(self) -> str:
        return f"+3318{self.number[-2:]}{next(self.strangers):05}"

    def _keep(self, route: Route) -> None:
        message = sent(self.store)[-1]
        assert message.route is route
        self.sent[route] = message.content["password"]


Event = Callable[[Household], None]
EVENTS = (
    Household.a_stranger_asks_for_a_password,
    Household.a_letter_goes_out,
    Household.strangers_lock_it,
    Household.the_owner_uses_the_code,
)
WAYS_IN: dict[str, Callable[[Household], str]] = {
    "0000001": lambda _: CODE,
    "0000002": lambda household: household.sent[Route.SMS],
    "0000003": lambda household: household.sent[Route.LETTER],
}


@pytest.mark.parametrize(
    "order",
    list(permutations(EVENTS)),
    ids=lambda order: "-".join(event.__name__ for event in order),
)
def test_a_reset_by_a_stranger_harms_nobody(
    store: Store, clock: FakeClock, order: Sequence[Event]
) -> None:
    """In every order with the old code, a letter and a lock; whichever secret the owner takes."""
    for number, secret in WAYS_IN.items():
        household = Household(store, number, telephone=f"+336{number}{number[-1]}")
        add_account(store, number, CODE, mobile=household.telephone)
        for event in order:
            clock.advance(HOUR)
            event(household)
        assert household.gets_in(secret(household))
        assert household.gets_in(secret(household))


def test_who_spends_what_unknown_callers_have_leaves_the_owner_in_peace(store: Store) -> None:
    add_account(store)
    for stranger in range(3 * OF_AN_ACCOUNT):
        log_in(store, WRONG, caller_id=f"+3318000{stranger:04}")
    assert log_in(store) is Refusal.REFUSED
    assert isinstance(log_in(store, caller_id=OWNER), Session)
    assert log_in(store) is Refusal.REFUSED  # nor does the owner open it to them


def test_who_gets_into_a_dossier_of_their_own_may_fail_no_more_often(store: Store) -> None:
    add_account(store)
    add_account(store, MALLORYS_NUMBER, MALLORYS_PASSWORD, mobile=MALLORY)

    def log_in_at_home() -> Session | object:
        return log_in(store, MALLORYS_PASSWORD, number=MALLORYS_NUMBER, caller_id=MALLORY)

    for number in (NUMBER, "9999999"):
        for _ in range(OF_A_CALLER // 2):
            assert isinstance(log_in_at_home(), Session)
            assert log_in(store, WRONG, number=number, caller_id=MALLORY) is Refusal.REFUSED
    assert log_in_at_home() is Refusal.REFUSED
    assert log_in(store, PASSWORD, caller_id=MALLORY) is Refusal.REFUSED
    assert isinstance(log_in(store, PASSWORD, caller_id=OWNER), Session)
