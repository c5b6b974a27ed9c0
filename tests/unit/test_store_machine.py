"""Random stories of dossiers, played to the store and to a model of the rules (tests/model.py).

After every event the store must accept exactly the secrets, read exactly the dossiers and hold
exactly the messages that the model says. What a story is made of names no secret: a failure prints
the story.
"""

import hashlib
import json
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import count
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import select

from shared import (
    agent_tasks,
    claimants,
    credentials,
    dossier,
    feed,
    incident,
    life_cycle,
    outbox,
    password_change,
    resets,
    sessions,
    voiding,
    web_accounts,
    web_changes,
)
from shared.agent_tasks import Task
from shared.credentials import Expired, Login, Refusal
from shared.database import Database
from shared.errors import ClosedError, NotAllowedError, SessionEndedError, UnavailableError
from shared.hashing import read_foreign
from shared.keyring import KeyRing
from shared.life_cycle import Key
from shared.models import (
    Account,
    ChangeEvent,
    Message,
    MessageState,
    Person,
    Role,
    Situation,
    WebAccount,
)
from shared.origin import ADMIN, Origin
from shared.outbox import Report, Result
from shared.passwords import Fault
from shared.people import PersonData, identity_key, seal_person
from shared.rules import Channel, CredentialKind, Identifier, Rules
from shared.secret import Secret
from shared.sessions import Proof, Session
from shared.store import Store
from shared.voiding import Window
from shared.web_accounts import Holder, WebLogin
from shared.web_changes import WebChange
from tests import model
from tests.conftest import EMPTY
from tests.engines import SharedEngines
from tests.gateway import by_name
from tests.model import Dossier, Kind, Model, Outcome, Reading, State, Why
from tests.postgresql import PostgresqlServer
from tests.store import CountingHasher, FakeClock, pay, watch

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)

# Fewer than in rules.toml, so that a short story gets there.
NUMBERS = model.Numbers(in_a_row=8, withheld=4)

CLIENT = "caf.fr"
PARIS_KEY, LYON_KEY = ("75", "0123456"), ("69", "7654321")
UNKNOWN_KEY = ("75", "9999999")
CLAIRE_MOBILE, HUGO_MOBILE, NEW_MOBILE = "+33612345678", "+33698765432", "+33611111111"
BRUNO_LANDLINE, BRUNO_MOBILE = "+33472000001", "+33622222222"
MOBILES = {
    "none": None,
    "Claire's": CLAIRE_MOBILE,
    "a new one": NEW_MOBILE,
    "Bruno's": BRUNO_MOBILE,
}
CALLERS = {
    "Claire": CLAIRE_MOBILE,
    "Hugo": HUGO_MOBILE,
    "Bruno": BRUNO_LANDLINE,
    "the new mobile": NEW_MOBILE,
    "Mallory": "+33199000001",
    "Eve": "+33199000002",
    "no caller id": None,
}
P_NUMBER = "P01234567"
WRONG = "00000000"
SEEDS = {
    "code": [(Kind.CODE, "4826")],
    "password": [(Kind.PASSWORD, "83927415")],
    "both": [(Kind.CODE, "4826"), (Kind.PASSWORD, "83927415")],
    "nothing": [],
}
STORIES = {"sqlite": 10, "postgresql": 3}  # of 30 events; in the soak 20 times as many, of 60
SOAK_FACTOR = 20

LEO_NIR_WITH_KEY = "253072A07300443"
LEO_NIR = LEO_NIR_WITH_KEY[:13]

CLAIRE = PersonData("Lefèvre", "Claire", date(1995, 10, 7), "2951099126111", CLAIRE_MOBILE)
HUGO = PersonData("Petit", "Hugo", date(1990, 4, 5), "1900475112001", HUGO_MOBILE)
BRUNO = PersonData("Morel", "Bruno", date(1980, 1, 2), "1800169112001", landline=BRUNO_LANDLINE)
LEO = PersonData("Roux", "Léo", date(1953, 7, 1))

STARTS = [
    datetime(2021, 9, 1, 8, tzinfo=UTC),
    datetime(2021, 10, 8, 12, tzinfo=UTC),
    datetime(2021, 11, 2, 9, 30, tzinfo=UTC),
    datetime(2022, 3, 20, 9, tzinfo=UTC),
]
CUT_OVER = datetime(2022, 4, 1, tzinfo=model.PARIS)  # R19
PAUSES = {
    "a second": timedelta(seconds=1),
    "15 minutes": 15 * MINUTE,
    "half an hour": 30 * MINUTE,
    "an hour": HOUR,
    "a day": DAY,
    "10 days": 10 * DAY,
    "30 days": 30 * DAY,
    "2 months": 61 * DAY,
    "2 years": 730 * DAY,
}
SCOPES = ["service", "channel:voice", "channel:web", "caisse:75", "caisse:69"]

which_dossier = st.integers(0, 9)
which = st.integers(0, 99)
who = st.sampled_from([*CALLERS, "a stranger"])
channels = st.sampled_from(["voice", "voice", "voice", "web", "app", "kiosk"])
what = st.sampled_from(["usable", "usable", "in force", "pending", "wrong", "any"])


@dataclass
class Bench:
    """What every story of a test is played on."""

    database: Callable[[], AbstractContextManager[Database]]  # an empty one
    keys: KeyRing
    rules: Rules
    folder: Path


class StoreMachine(RuleBasedStateMachine):
    """Plays each event to the store and to the model, and compares."""

    bench: Bench

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.hasher = CountingHasher()
        self.closing = ExitStack()
        self.fresh = count()
        self.chance = random.Random(0)  # noqa: S311
        self.opened: list[tuple[Session, model.Session]] = []
        self.refusals: dict[str, list[str]] = {}
        self.refused: list[tuple[datetime, str | None]] = []

    @initialize(
        start=st.sampled_from(STARTS),
        number_closes=st.sampled_from([True, False, False]),
        cut_over=st.booleans(),
        paris=st.sampled_from(["code", "password", "both"]),
        lyon=st.sampled_from(["code", "password", "nothing"]),
    )
    def begin(
        self, start: datetime, number_closes: bool, cut_over: bool, paris: str, lyon: str
    ) -> None:
        self.clock.now = start
        table = model.Table(
            number_closes=model.Table.bascule if number_closes else None,
            cut_over=CUT_OVER if cut_over else None,
        )
        self.model = Model(self.clock, NUMBERS, table)
        self.store = Store(
            self.closing.enter_context(self.bench.database()),
            self.bench.keys,
            _with_dates(self.bench.rules, table),
            self.hasher,
            self.clock,
            self.chance.randrange,
        )
        self.seen = watch(self.store.database)
        claire, hugo, bruno = (
            model.Person(one.given_names or "", one.nir or "") for one in (CLAIRE, HUGO, BRUNO)
        )
        leo = model.Person("Léo", "")
        self.model.persons += [claire, hugo, bruno, leo]
        self.data = {claire: CLAIRE, hugo: HUGO, bruno: BRUNO, leo: LEO}
        self._add_dossier(PARIS_KEY, {claire: "allocataire", hugo: "conjoint"}, 12345, paris)
        self._add_dossier(
            LYON_KEY, {bruno: "allocataire", claire: "autre", leo: "autre"}, 67890, lyon
        )
        self._give_provisional(leo)
        for person in range(len(self.model.persons)):
            self.choose_web_password(person)

    def teardown(self) -> None:
        self.closing.close()

    # Logins

    @rule(key=which_dossier, what=what, n=which, who=who, channel=channels)
    def log_in(self, key: int, what: str, n: int, who: str, channel: str) -> None:
        chosen = self._key(key)
        self._log_in(chosen, self._digits(chosen, what, n), channel, who)

    @rule(key=which_dossier, n=which, what=st.sampled_from(["usable", "usable", "any"]))
    def owner_logs_in(self, key: int, n: int, what: str) -> None:
        chosen = self._open_key(key)
        self._log_in(chosen, self._digits(chosen, what, n), "voice", self._phone(chosen))

    @rule(key=which_dossier, days=st.sampled_from([0, 1, 10]), away=st.booleans())
    def reset_and_log_in(self, key: int, days: int, away: bool) -> None:
        """From forgetting the password to the first use of the new one (R10, R11, D03)."""
        chosen = self._open_key(key)
        phone = self._phone(chosen)
        self._forget(chosen, phone, "voice")
        self.hand_over()
        self.clock.advance(days * DAY)
        who = "a stranger" if away else phone
        self._log_in(chosen, self._digits(chosen, "pending", 0), "voice", who)

    @rule(key=which_dossier, n=which, channel=st.sampled_from(["web", "app", "kiosk"]))
    def log_in_elsewhere(self, key: int, n: int, channel: str) -> None:
        """In the web's time of number and password (R17), and after it."""
        chosen = self._open_key(key)
        what = "usable" if n % 4 else "any"
        self._log_in(chosen, self._digits(chosen, what, n), channel, "Claire")

    @rule(
        key=which_dossier,
        times=st.integers(2, 6),
        what=st.sampled_from(["wrong", "usable", "any"]),
        n=which,
        who=who,
    )
    def insist(self, key: int, times: int, what: str, n: int, who: str) -> None:
        """The same secret again and again, which may be over or too old (D07)."""
        chosen = self._key(key)
        digits = self._digits(chosen, what, n)
        for _ in range(times):
            self._log_in(chosen, digits, "voice", who)

    @rule(key=which_dossier)
    def outlive(self, key: int) -> None:
        """A password opens until its last second; then its owner is told, however often (R07)."""
        chosen = self._open_key(key)
        lives = [one for one in self.model.dossiers[chosen].usable(Kind.PASSWORD) if one.digits]
        if lives and lives[0].expires_at is not None:
            phone, last = self._phone(chosen), lives[0].expires_at
            self.clock.now = max(self.clock.now, last - PAUSES["a second"])
            self._log_in(chosen, lives[0].digits, "voice", phone)
            self.clock.now = max(self.clock.now, last)
            for _ in range(6):
                self._log_in(chosen, lives[0].digits, "voice", phone)

    @rule(key=which_dossier, n=which, who=who)
    def spray(self, key: int, n: int, who: str) -> None:
        """One wrong try on each of several dossiers, then the right one (D05)."""
        for other in (PARIS_KEY, LYON_KEY, UNKNOWN_KEY):
            self._log_in(other, WRONG, "voice", who)
        chosen = self._open_key(key)
        self._log_in(chosen, self._digits(chosen, "usable", n), "voice", who)

    @rule(key=which_dossier, n=which, times=st.integers(2, 4))
    def owner_fumbles(self, key: int, n: int, times: int) -> None:
        """Twice so many wrong ones, then the right one: it clears what went before (D05)."""
        chosen = self._open_key(key)
        phone = self._phone(chosen)
        for _ in range(2):
            digits = self._digits(chosen, "usable", n)
            for _ in range(times):
                self._log_in(chosen, WRONG[: len(digits)], "voice", phone)
            self._log_in(chosen, digits, "voice", phone)

    @rule(key=which_dossier, days=st.integers(0, 1), then=st.sampled_from(["home", "away", ""]))
    def besiege(self, key: int, days: int, then: str) -> None:
        """Strangers guess until nobody unknown gets in; the owner still does (D05).

        From home at once, from elsewhere with a newly issued password.
        """
        chosen = self._open_key(key)
        for day in range(days + 1):
            self.clock.advance(day * DAY)
            for _ in range(5):
                self._log_in(chosen, WRONG, "voice", "a stranger")
        if then == "home":
            self._owner_gets_in(chosen)
        if then == "away":
            self.reset_and_log_in(key, 1, away=True)

    def _owner_gets_in(self, key: model.Key) -> None:
        """Whatever strangers did, if none of the household was refused in a day."""
        place, day_ago = self.model.dossiers[key], self.clock.now - DAY
        right = [
            one.digits
            for one in place.usable(Kind.PASSWORD)
            if one.state is State.IN_FORCE and not one.expired(self.clock.now)
        ]
        refused = any(at > day_ago and who in place.phones for at, who in self.refused)
        is_open = self.model.phone_open and not self.model.closed("voice", key[0])
        if right and is_open and not refused:
            outcome = self._log_in(key, right[0], "voice", self._phone(key))
            assert outcome is Outcome.OPENED

    @rule(person=st.integers(0, 3), what=what, n=which, who=who, app=st.booleans())
    def log_in_person(self, person: int, what: str, n: int, who: str, app: bool) -> None:
        chosen = self.model.persons[person]
        origin = self._origin("app" if app else "web", who)
        password = _pick(chosen.web, what, n) or "Faux2021faux"
        self._log_in_person(chosen, chosen.identifier, password, origin)

    # Sessions

    @precondition(lambda self: self.opened)
    @rule(n=which, given=st.booleans())
    def delegate(self, n: int, given: bool) -> None:
        session, expected = self._session(n)
        change = dossier.give_delegation if given else dossier.withdraw_delegation
        done = self.model.delegate(expected, given=given)
        assert _reading(lambda: change(self.store, session)) is done

    @precondition(lambda self: self.opened)
    @rule(n=which)
    def log_out(self, n: int) -> None:
        session, expected = self._session(n)
        sessions.end(self.store, session)
        expected.over = True

    @precondition(lambda self: self.opened)
    @rule(n=which, other_client=st.booleans())
    def resume(self, n: int, other_client: bool) -> None:
        """A client finds its own sessions by their token, those of a call nobody does."""
        session, expected = self._session(n)
        client = "another" if other_client else CLIENT
        alive = self.model.alive(expected) and expected.channel != "voice" and not other_client
        resumed = _reading(lambda: sessions.resume(self.store, session.token, client))
        assert resumed is (Reading.READ if alive else Reading.OVER)

    # Passwords

    @rule(key=which_dossier, who=who, channel=st.sampled_from(["voice", "voice", "web"]))
    def forget(self, key: int, who: str, channel: str) -> None:
        self._forget(self._key(key), who, channel)

    def _forget(self, chosen: model.Key, who: str, channel: str) -> None:
        origin = self._origin(channel, who)
        before = len(self.seen)
        computed = self._computed()
        if self.model.closed(channel, chosen[0]):  # D15
            with pytest.raises(ClosedError):
                resets.request_password(self.store, *chosen, origin)
            return
        resets.request_password(self.store, *chosen, origin)
        assert self._computed() - computed == 1  # D04
        self._alike("request", before)
        self._learn(self.model.forgot(chosen, origin.caller_id, channel))

    @rule(key=which_dossier, times=st.integers(2, 7), who=who)
    def forget_again_and_again(self, key: int, times: int, who: str) -> None:
        """D06: however often somebody asks."""
        for _ in range(times):
            self._forget(self._key(key), who, "voice")
            self.clock.advance(15 * MINUTE)

    @rule(key=which_dossier)
    def ask_an_agent(self, key: int) -> None:
        chosen = self._key(key)
        task = Task(f"task-{next(self.fresh)}", agent_tasks.Kind.PASSWORD, *chosen, None)
        answer = agent_tasks.do(self.store, task, "agents")
        issued = self.model.agent_asks(chosen)
        assert (answer is agent_tasks.Answer.DONE) is (issued is not None)
        self._learn(issued)

    @rule()
    def hand_over(self) -> None:
        """The provider takes what waits, but what waited too long."""
        outbox.recover(self.store)
        for claimed in outbox.claim(self.store, "file", by_name, 100):
            assert outbox.finish(self.store, claimed, Report(Result.ACCEPTED), 0)
        self.model.hand_over()

    @rule(
        key=which_dossier,
        how=st.sampled_from(["separation", "move", "revocation", "revocation with a new one"]),
    )
    def end_at_once(self, key: int, how: str) -> None:
        """R08, D03."""
        chosen, origin = self._open_key(key), ADMIN
        old = Key(*chosen)
        if how == "separation":
            life_cycle.separate(self.store, old, origin)
            self._learn(self.model.separate(chosen))
        elif how == "move":
            new = ("13", f"{1000000 + next(self.fresh)}")
            for _ in range(2):  # told twice, done once
                life_cycle.move(self.store, old, Key(*new), origin)
            self._learn(self.model.move(chosen, new))
        else:
            reissue = how == "revocation with a new one"
            life_cycle.revoke(self.store, old, origin, reissue=reissue)
            self._learn(self.model.revoke(chosen, reissue=reissue))

    @rule(key=which_dossier, n=which)
    def change_during_a_call(self, key: int, n: int) -> None:
        """The owner gets in by telephone and on the web, and changes the password there."""
        chosen = self._open_key(key)
        digits, opened = self._digits(chosen, "usable", n), len(self.opened)
        for channel in ("voice", "web"):
            self._log_in(chosen, digits, channel, self._phone(chosen))
        if len(self.opened) > opened:
            self.change_password(0, "new")

    @precondition(lambda self: self.opened)
    @rule(n=which, choice=st.sampled_from(["new", "new", "new", "same", "guessable"]))
    def change_password(self, n: int, choice: str) -> None:
        """By its owner on the web (R07)."""
        session, expected = self._session(n)
        usable = expected.dossier.usable(Kind.PASSWORD)
        choices = {
            "new": self._new_digits(),
            "same": usable[-1].digits if usable else "11111111",
            "guessable": "11111111",
        }
        fault: list[Fault | None] = []

        def change() -> None:
            chosen = Secret(choices[choice])
            fault.append(password_change.change(self.store, session, chosen))

        allowed = self.model.may_change(expected)
        assert _reading(change) is allowed
        if allowed is Reading.READ:
            assert (fault == [None]) is (choice == "new")
            if choice == "new":
                self.model.change_password(expected, choices["new"])

    @rule(
        key=which_dossier,
        late=st.sampled_from(["a second", "an hour", "a day", "10 days"]),
        created=st.booleans(),
    )
    def web_tells(self, key: int, late: str, created: bool) -> None:
        """The web stack ended the dossier's password, or created one, some time ago (R04)."""
        chosen, at = self._open_key(key), self.clock.now - PAUSES[late]
        digits = self._new_digits()
        salted = hashlib.sha256(f"sel{digits}".encode()).hexdigest()
        foreign = read_foreign("sha256-salt-first", f"sel${salted}") if created else None
        web_changes.apply(self.store, WebChange(uuid4(), Key(*chosen), at, foreign), CLIENT)
        if created:
            self.model.web_created(chosen, at, digits)
        else:
            self.model.web_ended(chosen, at)

    @rule(person=st.integers(0, 3))
    def choose_web_password(self, person: int) -> None:
        """What a recovery or a bascule ends with (R12, R18)."""
        chosen = self.model.persons[person]
        place = next((one for one in self.model.open_dossiers() if chosen in one.roles), None)
        assert place is not None
        password = Secret(f"Soleil{next(self.fresh)}abc")
        hashed = self.hasher.hash(password)
        origin = self._origin("web", "Claire")
        with self.store.database.write() as transaction:
            row = transaction.get_one(Person, self._person_id(chosen, place))
            web_accounts.set_password(self.store, transaction, row, hashed, origin)
        self.model.choose_web_password(chosen, place, password.reveal())

    # Contacts, incidents, time

    @precondition(lambda self: self.model.persons[3].identifier == P_NUMBER)
    @rule()
    def learn_nir(self) -> None:
        """R20."""
        leo = self.model.persons[3]
        place = next(one for one in self.model.open_dossiers() if leo in one.roles)
        self._import(place, leo, nir=LEO_NIR_WITH_KEY)
        self.model.learn_nir(leo, LEO_NIR)
        password = leo.former[-1].digits
        self._log_in_person(leo, P_NUMBER, password, self._origin("web", "a stranger"))

    @rule(key=which_dossier, mobile=st.sampled_from([*MOBILES]), by_adviser=st.booleans())
    def change_mobile(self, key: int, mobile: str, by_adviser: bool) -> None:
        number, place = MOBILES[mobile], self.model.dossiers[self._open_key(key)]
        person = next(one for one, role in place.roles.items() if role == "allocataire")
        since = None
        if by_adviser and number is not None:
            since = (self.clock.now - 40 * DAY).date()
        self._import(
            place,
            person,
            mobile=number or "",
            mobile_depuis=since.isoformat() if since else "",
            fixe=self.data[person].landline or "",
        )
        self.model.change_mobile(place, number, since)

    @rule(scope=st.sampled_from(SCOPES), lifted=st.sampled_from([True, True, False]))
    def raise_incident(self, scope: str, lifted: bool) -> None:
        assert incident.raise_incident(self.store, scope) is (scope not in self.model.incidents)
        self.model.raise_incident(scope)
        if lifted:
            for raised in sorted(self.model.incidents):
                assert incident.lift(self.store, raised)
            self.model.incidents.clear()

    @rule(
        since=st.sampled_from(["an hour", "an hour", "a day", "30 days"]),
        until=st.sampled_from(["now", "now", "a second"]),
        channel=st.sampled_from([None, None, None, "voice", "web", "admin"]),
        caisse=st.sampled_from([None, None, "75", "69"]),
    )
    def void(self, since: str, until: str, channel: str | None, caisse: str | None) -> None:
        self.clock.advance(PAUSES["a second"])  # what happened just now is in the window
        start = self.clock.now - PAUSES[since]
        end = self.clock.now - PAUSES[until] if until in PAUSES else self.clock.now
        window = Window(start, end, Channel(channel) if channel else None, caisse)
        counts = voiding.void(self.store, window)
        issued = self.model.void(start, end, channel=channel, caisse=caisse)
        self._learn(*issued)
        assert voiding.void(self.store, window) == counts  # safe to run twice
        assert self.model.void(start, end, channel=channel, caisse=caisse) == []

    @rule(pause=st.sampled_from([*list(PAUSES)[:5], *PAUSES]))
    def pass_time(self, pause: str) -> None:
        self.clock.advance(PAUSES[pause])

    # What always holds

    @invariant()
    def the_accepted_secrets_are_the_models(self) -> None:
        """D03, R04, D09: what the store would compare with, and nothing else, matches."""
        for key, place in self.model.dossiers.items():
            with self.store.database.read() as transaction:
                connection = transaction.connection()
                found = {
                    kind: credentials.find(connection, *key, kind, b"").candidates
                    for kind in (CredentialKind.CODE, CredentialKind.PASSWORD)
                }
            for n, secret in enumerate(place.secrets):
                if secret.digits:
                    candidates = found[CredentialKind(secret.kind)]
                    match = credentials.compare(self.store, candidates, Secret(secret.digits))
                    assert (match is not None) is (secret.usable and not place.closed), (n, key[0])
            stored = sum(len(candidates) for candidates in found.values())
            assert stored == (0 if place.closed else sum(one.usable for one in place.secrets))

    @invariant()
    def sessions_read_their_own_dossier_while_they_may(self) -> None:
        """R26 to R30, R39, D15: every session, those that were over before too."""
        for session, expected in self.opened[-12:]:
            cents: list[int | None] = []

            def read(session: Session = session, cents: list[int | None] = cents) -> None:
                try:
                    payment = dossier.last_payment(self.store, session)
                except UnavailableError:  # nothing is told yet of a dossier that moved here
                    payment = None
                cents.append(payment.cents if payment else None)

            reading = self.model.read(expected)
            assert _reading(read) is reading
            if reading is Reading.READ:
                assert cents == [expected.dossier.payment]

    @invariant()
    def what_waits_in_the_outbox_is_the_models(self) -> None:
        """One message a route and dossier; what is over says nothing any more (D12)."""
        with self.store.database.read() as transaction:
            rows = transaction.execute(
                select(Message, Account.caisse, Account.number)
                .join(Account, Account.id == Message.account_id)
                .where(Message.template.in_([*resets.Template]))
            ).all()
        stored = Counter(
            (
                (row.caisse, row.number),
                row.Message.route,
                row.Message.created_at,
                row.Message.state == MessageState.QUEUED,
            )
            for row in rows
        )
        assert stored == Counter(
            (one.dossier.key, one.route, one.at, one.waiting) for one in self.model.messages
        )
        waiting = Counter((key, route) for key, route, _, waits in stored.elements() if waits)
        assert set(waiting.values()) <= {1}
        over = [row.Message for row in rows if row.Message.state != MessageState.QUEUED]
        assert not any(one.content_sealed or one.text_sealed for one in over)

    @invariant()
    def nobody_gets_more_sms_than_the_limits(self) -> None:
        """D06: a request is answered only if that makes no more than so many."""
        sms = [one for one in self.model.messages if one.phone]
        for n, one in enumerate(sms):
            alike = [
                other.at
                for other in sms[: n + 1]
                if (other.dossier, other.from_known) == (one.dossier, one.from_known)
            ]
            for span, most in ((15 * MINUTE, 1), (DAY, 3), (30 * DAY, 5)):
                within = sum(at > one.at - span for at in alike)
                assert one.why is not Why.FORGOTTEN or within <= most

    @invariant()
    def the_change_feed_tells_the_same(self) -> None:
        """Whoever follows it accepts what the store does (R04)."""
        told: Counter[tuple[str, str]] = Counter()
        for entry in feed.since(self.store, 0):
            step = {ChangeEvent.ISSUED: 1, ChangeEvent.ENDED: -1, ChangeEvent.FIRST_USED: 0}
            told[entry.caisse, entry.number] += step[entry.event]
        for key, place in self.model.dossiers.items():
            assert told[key] == sum(one.usable for one in place.secrets)

    # Playing

    def _log_in(self, key: model.Key, digits: str, channel: str, who: str) -> Outcome:
        origin = self._origin(channel, who)
        computed, before, opened = self._computed(), len(self.seen), len(self.model.sessions)
        login = Login(*key, Secret(digits))
        given = credentials.verify(self.store, login, origin)
        computed = self._computed() - computed
        expected = self.model.log_in(key, digits, channel, origin.caller_id)
        assert _outcome(given) is expected
        if expected is Outcome.REFUSED:
            assert computed == 1  # D07
            self.refused.append((self.clock.now, origin.caller_id))
            who_asks = "withheld" if origin.caller_id is None else "with caller id"
            self._alike(f"refusal, {who_asks}", before)
        if isinstance(given, Session):
            self._keep([given], opened)
        return expected

    def _log_in_person(
        self, person: model.Person, identifier: str, password: str, origin: Origin
    ) -> None:
        opened = len(self.model.sessions)
        kind = Identifier.PROVISIONAL if identifier.startswith("P") else Identifier.NIR
        login = WebLogin(Holder(kind, identifier), Secret(password))
        before = len(self.seen)
        given = web_accounts.verify(self.store, login, origin)
        expected = self.model.log_in_person(
            person, identifier, password, origin.channel, origin.caller_id or ""
        )
        assert _outcome(given) is expected
        if expected is Outcome.REFUSED:
            self._alike("person's refusal", before)
        if isinstance(given, tuple):
            self._keep(given, opened)

    def _keep(self, given: "list[Session] | tuple[Session, ...]", opened: int) -> None:
        """Pair sessions with the model's, by the dossier."""
        new = {id(one.dossier): one for one in self.model.sessions[opened:]}
        assert len(given) == len(new)
        for session in given:
            expected = new[id(self._dossier_of(session.account_id))]
            assert session.change_only is expected.change_only
            if (secret := expected.secret) is not None:
                kind = CredentialKind(secret.kind)
                assert session.proof == Proof(kind, secret.provisional, secret.expires_at)
            self.opened.append((session, expected))

    def _alike(self, kind: str, before: int) -> None:
        """Nobody can tell refusals apart by what the database does (D07, D04)."""
        statements = self.seen[before:]
        del self.seen[:]
        assert statements == self.refusals.setdefault(kind, statements)

    def _learn(self, *issued: model.Secret | None) -> None:
        """Let owners read the passwords that were issued just now."""
        for secret in filter(None, issued):
            key = next(key for key, one in self.model.dossiers.items() if secret in one.secrets)
            with self.store.database.read() as transaction:
                message = transaction.scalars(
                    select(Message)
                    .join(Account, Account.id == Message.account_id)
                    .where(
                        Account.caisse == key[0],
                        Account.number == key[1],
                        Message.route == secret.route,
                        Message.template.in_([*resets.Template]),
                        Message.state == MessageState.QUEUED,
                    )
                ).one()
            content = outbox.opened(self.store, message, "content")
            secret.digits = json.loads(content)["password"]

    def _import(self, place: Dossier, person: model.Person, **cells: str) -> None:
        """Import one line about a person whose civil status is known."""
        data = self.data[person]
        line = dict.fromkeys(claimants.COLUMNS, "") | {
            "caisse": place.key[0],
            "numero": place.key[1],
            "role": place.roles[person],
            "situation": Situation.AFFILIE,
            "nom": data.surname or "",
            "prenoms": data.given_names or "",
            "naissance": f"{data.birth_date}",
            **cells,
        }
        file = self.bench.folder / "claimants.csv"
        file.write_text(f"{';'.join(line)}\n{';'.join(line.values())}\n", encoding="utf-8")
        claimants.import_claimants(self.store, file)

    # Choosing

    def _key(self, n: int) -> model.Key:
        """A number of a dossier, open or closed, or of none."""
        keys = [*self.model.dossiers, UNKNOWN_KEY]
        return keys[n % len(keys)]

    def _open_key(self, n: int) -> model.Key:
        keys = [one.key for one in self.model.open_dossiers()]
        return keys[n % len(keys)]

    def _phone(self, key: model.Key) -> str:
        """A telephone on file."""
        return min(self.model.dossiers[key].phones)

    def _session(self, n: int) -> tuple[Session, model.Session]:
        return self.opened[-1 - n % len(self.opened)]

    def _digits(self, key: model.Key, what: str, n: int) -> str:
        place = self.model.dossiers.get(key)
        return _pick(place.secrets if place else [], what, n) or WRONG

    def _new_digits(self) -> str:
        return f"5071{next(self.fresh):04}"

    def _origin(self, channel: str, who: str) -> Origin:
        if who == "a stranger":
            who = f"+3318{next(self.fresh):07}"
        if channel == "voice":
            return Origin(Channel.VOICE, CALLERS.get(who, who))
        return Origin.for_client(Channel(channel), CLIENT, who)

    # The store

    def _computed(self) -> int:
        """Count the Argon2 computations of logins and requests."""
        hasher = self.hasher
        return hasher.compared + hasher.pretended + hasher.hashed_like

    def _dossier_of(self, account_id: UUID) -> Dossier:
        with self.store.database.read() as transaction:
            row = transaction.get_one(Account, account_id)
        return self.model.dossiers[row.caisse, row.number]

    def _person_id(self, person: model.Person, place: Dossier) -> UUID:
        index = self.store.keys.index("identity", identity_key(self.data[person]) or "")
        with self.store.database.read() as transaction:
            return transaction.scalars(
                select(Person.id)
                .join(Account, Account.id == Person.account_id)
                .where(
                    Account.caisse == place.key[0],
                    Account.number == place.key[1],
                    Person.identity_index == index,
                )
            ).one()

    def _add_dossier(
        self, key: model.Key, roles: dict[model.Person, str], cents: int, secrets: str
    ) -> None:
        owner, *others = (self.data[person] for person in roles)
        landlines = {one.landline for one in (owner, *others)} | {one.mobile for one in others}
        mobile = model.Mobile(owner.mobile)
        place = Dossier(key, mobile, frozenset(filter(None, landlines)), roles, cents)
        self.model.dossiers[key] = place
        now = self.clock.now
        account = Account(
            id=uuid4(),
            caisse=key[0],
            number=key[1],
            situation=Situation.AFFILIE,
            created_at=now,
        )
        with self.store.database.write() as transaction:
            transaction.add(account)
            transaction.flush()
            for person, role in roles.items():
                row = Person(id=uuid4(), account_id=account.id, role=Role(role))
                sealed = seal_person(self.store.keys, row.id, self.data[person])
                for column, value in sealed.items():
                    setattr(row, column, value)
                transaction.add(row)
        pay(self.store, account.id, (now.date().isoformat(), cents))
        for kind, digits in SEEDS[secrets]:
            expires_at = None if kind is Kind.CODE else now + 730 * DAY
            credentials.set_secret(self.store, *key, Secret(digits), expires_at)
            place.secrets.append(
                model.Secret(kind, Why.GIVEN, State.IN_FORCE, now, expires_at, digits=digits)
            )

    def _give_provisional(self, leo: model.Person) -> None:
        """Give the one without NIR an identifier (R20)."""
        holder = Holder(Identifier.PROVISIONAL, P_NUMBER)
        account = WebAccount(
            id=uuid4(),
            person_id=self._person_id(leo, self.model.dossiers[LYON_KEY]),
            provisional_index=holder.index(self.store.keys),
            provisional_sealed=b"",
            created_at=self.clock.now,
        )
        with self.store.database.write() as transaction:
            transaction.add(account)
        leo.identifier = P_NUMBER


def _with_dates(rules: Rules, table: model.Table) -> Rules:
    """Give the rules with the transition table of one story (D10), and D05's smaller numbers."""
    until = {"voice": table.cut_over, **dict.fromkeys(["web", "app", "kiosk"], table.number_closes)}
    lines = [
        line.model_copy(update={"until": until[line.channel]})
        if line.identifier is Identifier.NUMBER
        else line
        for line in rules.transition
    ]
    throttle = rules.throttle.model_copy(
        update={
            "account_failures_in_row": NUMBERS.in_a_row,
            "withheld_minimum": NUMBERS.withheld,
        }
    )
    return rules.model_copy(update={"transition": tuple(lines), "throttle": throttle})


def _pick(secrets: list[model.Secret], what: str, n: int) -> str | None:
    """Choose one of those that their owners have read."""
    wanted = {
        "usable": [State.IN_FORCE, State.PENDING],
        "in force": [State.IN_FORCE],
        "pending": [State.PENDING],
        "wrong": [],
        "any": [*State],
    }[what]
    found = [one.digits for one in secrets if one.digits and one.state in wanted]
    return found[-1 - n % len(found)] if found else None


def _outcome(given: object) -> Outcome:
    if isinstance(given, Expired):
        return Outcome.EXPIRED
    refusals = {Refusal.REFUSED: Outcome.REFUSED, Refusal.CLOSED: Outcome.CLOSED}
    return refusals[given] if isinstance(given, Refusal) else Outcome.OPENED


def _reading(read: Callable[[], object]) -> Reading:
    try:
        read()
    except SessionEndedError:
        return Reading.OVER
    except NotAllowedError:
        return Reading.NOT_ALLOWED
    return Reading.READ


@pytest.fixture
def bench(
    request: pytest.FixtureRequest,
    engines: SharedEngines,
    keys: KeyRing,
    rules: Rules,
    tmp_path: Path,
) -> Bench:
    """Stories on the database that the test asks for."""
    new = _sqlite if request.getfixturevalue("kind") == "sqlite" else _postgresql

    @contextmanager
    def database() -> Iterator[Database]:
        with new(request, tmp_path) as url, engines.database(url) as opened:
            yield opened

    return Bench(database, keys, rules, tmp_path)


@contextmanager
def _sqlite(request: pytest.FixtureRequest, folder: Path) -> Iterator[str]:
    path = folder / f"{uuid4()}.db"
    shutil.copyfile(request.getfixturevalue("sqlite_template"), path)
    yield f"sqlite:///{path}"
    path.unlink()


@contextmanager
def _postgresql(request: pytest.FixtureRequest, _: Path) -> Iterator[str]:
    server: PostgresqlServer = request.getfixturevalue("postgresql")
    name: str = request.getfixturevalue("postgresql_name")
    yield server.url(name)
    server.execute(EMPTY, name)


# Stories in which the store once did something else.
Story = list[tuple[Callable[..., None], dict[str, object]]]
WENT_WRONG: dict[str, Story] = {
    "a letter that was revoked is asked for again (D03)": [
        (StoreMachine.forget, {"key": 1, "who": "Eve", "channel": "voice"}),
        (StoreMachine.end_at_once, {"key": 1, "how": "revocation"}),
        (StoreMachine.forget, {"key": 1, "who": "Bruno", "channel": "voice"}),
    ],
    "a letter is no SMS (D06)": [
        (StoreMachine.forget, {"key": 1, "who": "Eve", "channel": "voice"}),
        (StoreMachine.change_mobile, {"key": 1, "mobile": "Bruno's", "by_adviser": True}),
        (StoreMachine.forget, {"key": 1, "who": "Eve", "channel": "voice"}),
    ],
    "a household separates again, and never used the password (R08)": [
        (StoreMachine.end_at_once, {"key": 0, "how": "separation"}),
        (StoreMachine.pass_time, {"pause": "2 months"}),
        (StoreMachine.end_at_once, {"key": 0, "how": "separation"}),
    ],
    "a web password is revoked: the person's other dossier closes too (D15)": [
        (StoreMachine.choose_web_password, {"person": 0}),
        (
            StoreMachine.log_in_person,
            {"person": 0, "what": "in force", "n": 0, "who": "Claire", "app": False},
        ),
        (StoreMachine.pass_time, {"pause": "a second"}),
        (
            StoreMachine.void,
            {"since": "an hour", "until": "now", "channel": None, "caisse": None},
        ),
    ],
}


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
@pytest.mark.parametrize("story", WENT_WRONG.values(), ids=WENT_WRONG)
def test_what_once_went_wrong(bench: Bench, kind: str, story: Story) -> None:
    StoreMachine.bench = bench
    machine = StoreMachine()
    try:
        machine.begin(STARTS[2], number_closes=True, cut_over=False, paris="both", lyon="code")
        for play, how in story:
            play(machine, **how)
            machine.the_accepted_secrets_are_the_models()
            machine.sessions_read_their_own_dossier_while_they_may()
            machine.what_waits_in_the_outbox_is_the_models()
    finally:
        machine.teardown()


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_the_store_does_what_the_rules_say(
    request: pytest.FixtureRequest, bench: Bench, kind: str
) -> None:
    soak = request.config.getoption("--soak")
    StoreMachine.bench = bench
    run_state_machine_as_test(
        StoreMachine,
        settings=settings(
            max_examples=STORIES[kind] * (SOAK_FACTOR if soak else 1),
            stateful_step_count=60 if soak else 30,
            derandomize=not soak,
            deadline=None,
            database=None,
            print_blob=False,
            suppress_health_check=list(HealthCheck),
        ),
    )
