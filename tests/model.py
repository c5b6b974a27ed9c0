"""The rules as a model in plain Python: what a store that keeps them does, one event at a time.

Written from the rules and decisions of docs/rules.md alone. Nothing of the product is imported, so
that a mistake made there is not made here again. There is no database, no hash and no thread.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import Enum, StrEnum, auto
from zoneinfo import ZoneInfo

PARIS = ZoneInfo("Europe/Paris")
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
TWO_MONTHS, TWO_YEARS = 61 * DAY, 730 * DAY

Key = tuple[str, str]  # caisse and numéro d'allocataire (D01)


@dataclass(frozen=True)
class Numbers:
    """The numbers of D05, where a test has others than the decision."""

    in_a_row: int = 30
    withheld: int = 100


@dataclass(frozen=True)
class Table:
    """The dates of the transition table (D10); None: never."""

    bascule: datetime = datetime(2021, 10, 9, tzinfo=PARIS)  # R18: persons' accounts begin
    number_closes: datetime | None = bascule  # on the web, in the app, at kiosks (R17)
    cut_over: datetime | None = None  # R19: the telephone's


class Kind(StrEnum):
    CODE = "code"  # the old 4 digits (R01)
    PASSWORD = "password"  # 8 digits (R02)
    WEB = "web-password"  # a person's own (R14)


class State(Enum):
    PENDING = auto()  # on its way, or not used yet (D03)
    IN_FORCE = auto()
    OVER = auto()


class Why(Enum):
    OWN = auto()  # its owner chose it
    FORGOTTEN = auto()
    AGENT = auto()
    SEPARATION = auto()
    MUTATION = auto()
    INCIDENT = auto()
    GIVEN = auto()  # for the test, without end


class Outcome(Enum):
    """What comes of a login."""

    OPENED = auto()
    EXPIRED = auto()
    REFUSED = auto()
    CLOSED = auto()


class Reading(Enum):
    """What comes of the attempt to read a dossier."""

    READ = auto()
    NOT_ALLOWED = auto()
    OVER = auto()


@dataclass(eq=False)
class Secret:
    kind: Kind
    why: Why
    state: State
    issued_at: datetime
    expires_at: datetime | None = None
    provisional: bool = False
    route: str | None = None  # "sms" or "letter"
    digits: str = field(default="", repr=False)  # told once its owner has read them
    used: bool = False
    ended_at: datetime | None = None
    replaced: bool = False  # by a newer one, and not revoked

    @property
    def usable(self) -> bool:
        return self.state is not State.OVER

    def expired(self, now: datetime) -> bool:
        return self.expires_at is not None and self.expires_at <= now

    def end(self, now: datetime, *, replaced: bool = False) -> None:
        if self.usable:
            self.state, self.ended_at, self.replaced = State.OVER, now, replaced


@dataclass(eq=False)
class Person:
    """A person, who may be in several dossiers."""

    name: str
    identifier: str = field(repr=False)  # NIR, or P + 8 digits while there is none (R20)
    web: list[Secret] = field(default_factory=list)  # all of the identifier's, in order
    former: list[Secret] = field(default_factory=list)  # of the identifier before


@dataclass(frozen=True)
class Mobile:
    """The allocataire's mobile, and the last one that could be trusted (D04)."""

    number: str | None = field(repr=False)
    since: date | None = None
    before: str | None = field(default=None, repr=False)


@dataclass(eq=False)
class Dossier:
    key: Key = field(repr=False)
    mobile: Mobile
    others_phones: frozenset[str] = field(repr=False)  # landline, and other members'
    roles: dict[Person, str]
    payment: int | None  # cents
    delegated: bool = False
    closed: bool = False
    secrets: list[Secret] = field(default_factory=list)

    @property
    def phones(self) -> set[str]:
        return {*self.others_phones, *filter(None, [self.mobile.number])}

    def usable(self, kind: Kind) -> list[Secret]:
        return [one for one in self.secrets if one.kind is kind and one.usable]


@dataclass(eq=False)
class Session:
    dossier: Dossier
    person: Person | None  # None: the allocataire's, by the dossier's secret (D11)
    channel: str
    until: datetime
    secret: Secret | None = None  # the dossier's, that opened it
    change_only: bool = False  # R09
    over: bool = False


@dataclass(eq=False)
class Message:
    dossier: Dossier
    why: Why
    route: str
    at: datetime
    from_known: bool  # asked for by the caller id on file
    phone: str | None = field(repr=False)
    waiting: bool = True


@dataclass(eq=False)
class Change:
    """A change that `void` can take back (D15)."""

    at: datetime
    channel: str
    dossier: Dossier
    secret: Secret | None = None
    person: Person | None = None  # whose web password the secret is
    what: str = ""  # "mobile" or "delegated"
    before: Mobile | bool | None = None
    seen: bool = False
    undone: bool = False


class Failures:
    """D05: failures by account, in a row, and by caller id. What is not allowed counts nowhere."""

    def __init__(self, numbers: Numbers) -> None:
        self._numbers = numbers
        self._of_account: dict[tuple[object, bool], list[datetime]] = defaultdict(list)
        self._in_row: dict[object, int] = defaultdict(int)
        self._of_caller: dict[str | None, list[tuple[datetime, object]]] = defaultdict(list)

    def row_open(self, target: object, *, known: bool) -> bool:
        """After so many in a row unknown callers wait until the owner has got in."""
        return known or self._in_row[target] < self._numbers.in_a_row

    def day_open(
        self, now: datetime, target: object, caller: str | None, *, known: bool, by_code: bool
    ) -> bool:
        """5 a day from unknown callers and 5 more from the caller id on file; 3 by code (D09)."""
        day_ago = now - DAY
        failures = sum(at > day_ago for at in self._of_account[target, known])
        by_caller = [which for at, which in self._of_caller[caller] if at > day_ago]
        if caller is None:
            caller_open = len(by_caller) < self._numbers.withheld
        else:
            caller_open = len(by_caller) < 10 and len(set(by_caller)) < 3
        return failures < (3 if by_code else 5) and caller_open

    def count(self, now: datetime, target: object, caller: str | None, *, known: bool) -> None:
        self._of_account[target, known].append(now)
        self._in_row[target] += 1
        self._of_caller[caller].append((now, target))

    def succeed(self, target: object, *, known: bool) -> None:
        """Clear the account's bucket of that kind of caller, never the caller id's."""
        self._of_account[target, known].clear()
        self._in_row[target] = 0

    def end_row(self, target: object) -> None:
        self._in_row[target] = 0


class Model:
    """Dossiers, persons, sessions and messages, and what may happen to them."""

    def __init__(self, clock: Callable[[], datetime], numbers: Numbers, table: Table) -> None:
        self._clock = clock
        self._table = table
        self._failures = Failures(numbers)
        self.dossiers: dict[Key, Dossier] = {}
        self.persons: list[Person] = []
        self.sessions: list[Session] = []
        self.messages: list[Message] = []
        self.changes: list[Change] = []
        self.incidents: set[str] = set()

    # Who may log in with what, where and when (D10)

    def number_opens(self, kind: Kind, channel: str) -> bool:
        """The number with a password; with the code on the telephone only (D09)."""
        until = self._table.cut_over if channel == "voice" else self._table.number_closes
        on_time = until is None or self._clock() < until
        return on_time and (kind is Kind.PASSWORD or channel == "voice")

    @property
    def phone_open(self) -> bool:
        return self.number_opens(Kind.PASSWORD, "voice")

    def person_opens(self, channel: str) -> bool:
        """NIR or provisional identifier, with the person's own password (R18, R20)."""
        return channel in {"web", "app"} and self._clock() >= self._table.bascule

    def closed(self, channel: str, caisse: str | None = None) -> bool:
        """D15."""
        return bool(self.incidents & {"service", f"channel:{channel}", f"caisse:{caisse}"})

    # Logins

    def log_in(self, key: Key, digits: str, channel: str, caller: str | None) -> Outcome:
        """With the number and the dossier's code or password."""
        now, kind = self._clock(), Kind.CODE if len(digits) == 4 else Kind.PASSWORD
        if self.closed(channel, key[0]):
            return Outcome.CLOSED
        dossier = self.dossier(key)
        known = dossier is not None and caller in dossier.phones
        usable = dossier.usable(kind) if dossier else []
        if not self._failures.row_open(key, known=known):  # only what was newly issued
            usable = [one for one in usable if one.state is State.PENDING]
            if not usable:
                return Outcome.REFUSED
        by_code = kind is Kind.CODE
        if not self._failures.day_open(now, key, caller, known=known, by_code=by_code):
            return Outcome.REFUSED
        found = [one for one in usable if one.digits == digits]
        if not found or not self.number_opens(kind, channel) or dossier is None:
            self._failures.count(now, key, caller, known=known)
            return Outcome.REFUSED
        if found[0].expired(now):
            return Outcome.EXPIRED  # told so, and no failure (D07)
        self._use(dossier, found[0])
        self._failures.succeed(key, known=known)
        self._open(dossier, None, channel, found[0])
        return Outcome.OPENED

    def log_in_person(
        self, person: Person, identifier: str, password: str, channel: str, client: str
    ) -> Outcome:
        """On the web: every open dossier of the person is opened (R18, D11)."""
        now = self._clock()
        if self.closed(channel):
            return Outcome.CLOSED
        allowed = self._failures.row_open(identifier, known=False) and self._failures.day_open(
            now, identifier, client, known=False, by_code=False
        )
        if not allowed:
            return Outcome.REFUSED
        right = any(one.usable and one.digits == password for one in person.web)
        opened = [one for one in self.open_dossiers() if person in one.roles]
        stands = identifier == person.identifier and opened and self.person_opens(channel)
        if not (right and stands):
            self._failures.count(now, identifier, client, known=False)
            return Outcome.REFUSED
        if any(self.closed(channel, one.key[0]) for one in opened):
            return Outcome.CLOSED
        self._failures.succeed(identifier, known=False)
        for dossier in opened:
            self._open(dossier, person, channel)
        return Outcome.OPENED

    def _use(self, dossier: Dossier, secret: Secret) -> None:
        """The first use of a pending one ends all others, a password's the code (D03, D09)."""
        now, was_pending = self._clock(), secret.state is State.PENDING
        for other in dossier.secrets:
            ends = was_pending if other.kind is secret.kind else not secret.used
            if other is not secret and ends and secret.kind is Kind.PASSWORD:
                other.end(now, replaced=True)
        secret.state, secret.used = State.IN_FORCE, True

    def _open(
        self, dossier: Dossier, person: Person | None, channel: str, secret: Secret | None = None
    ) -> None:
        """An hour; half of it for the change of a provisional password alone (R09)."""
        change_only = secret is not None and secret.provisional and channel != "voice"
        until = self._clock() + (30 if change_only else 60) * MINUTE
        self.sessions.append(Session(dossier, person, channel, until, secret, change_only))

    # What a session opens

    def alive(self, session: Session) -> bool:
        return not session.over and self._clock() < session.until

    def read(self, session: Session) -> Reading:
        """Payments: the allocataire, and the conjoint with delegation (R26, R27, R29, R30)."""
        if not self.alive(session) or session.change_only:
            return Reading.OVER
        role = self._role(session)
        may = role == "allocataire" or (role == "conjoint" and session.dossier.delegated)
        return Reading.READ if may else Reading.NOT_ALLOWED

    def delegate(self, session: Session, *, given: bool) -> Reading:
        """The allocataire alone gives and withdraws (R26)."""
        if not self.alive(session) or session.change_only:
            return Reading.OVER
        if self._role(session) != "allocataire":
            return Reading.NOT_ALLOWED
        dossier = session.dossier
        if "conjoint" in dossier.roles.values() and dossier.delegated is not given:
            self._change(session.channel, dossier, what="delegated")
            dossier.delegated = given
        return Reading.READ

    def _role(self, session: Session) -> str:
        return session.dossier.roles[session.person] if session.person else "allocataire"

    def end_sessions(self, which: Callable[[Session], bool]) -> None:
        for session in self.sessions:
            session.over |= which(session)

    # Passwords that are sent

    def forgot(self, key: Key, caller: str | None, channel: str) -> Secret | None:
        """« Mot de passe oublié »: what was issued, or None where nothing changes (D03, D06)."""
        dossier = self.dossier(key)
        if dossier is None or not self.phone_open:
            return None
        known = caller in dossier.phones
        if not self._may_send(dossier, from_known=known):
            return None
        return self._issue(dossier, Why.FORGOTTEN, channel, from_known=known)

    def agent_asks(self, key: Key) -> Secret | None:
        """A provisional password, one a day; a letter under way is not repeated (R09, D03)."""
        now, dossier = self._clock(), self.dossier(key)
        if dossier is None or not self.phone_open:
            return None
        of_agents = [one.issued_at for one in dossier.secrets if one.why is Why.AGENT]
        by_post = self.destination(dossier) is None
        if _within(DAY, now, of_agents) or (by_post and self._letter_under_way(dossier)):
            return None
        return self._issue(dossier, Why.AGENT, "agent")

    def destination(self, dossier: Dossier) -> str | None:
        """The mobile that an SMS goes to: not one changed less than 30 days ago (D04)."""
        mobile = dossier.mobile
        return mobile.before if self._changed_lately(mobile) else mobile.number

    def _may_send(self, dossier: Dossier, *, from_known: bool) -> bool:
        """D06, with as much again for requests from the caller id on file."""
        now, phone = self._clock(), self.destination(dossier)
        if phone is None:
            return not self._letter_under_way(dossier)
        sms = [one for one in self.messages if one.phone and one.from_known is from_known]
        to_account = [one.at for one in sms if one.dossier is dossier]
        to_phone = [one.at for one in sms if one.phone == phone]
        return (
            not _within(15 * MINUTE, now, to_account)
            and _within(DAY, now, to_account) < 3
            and _within(30 * DAY, now, to_account) < 5
            and _within(DAY, now, to_phone) < 3
        )

    def _letter_under_way(self, dossier: Dossier) -> bool:
        """It is not repeated for 10 days (D03)."""
        pending = [one for one in dossier.usable(Kind.PASSWORD) if one.state is State.PENDING]
        letters = [one.issued_at for one in pending if one.route == "letter"]
        return _within(10 * DAY, self._clock(), letters) > 0

    def _issue(
        self, dossier: Dossier, why: Why, channel: str, *, from_known: bool = False
    ) -> Secret:
        """Issue a password; one still pending by the same route gives way to it (D03)."""
        now, phone = self._clock(), self.destination(dossier)
        route = "letter" if phone is None else "sms"
        for one in dossier.usable(Kind.PASSWORD):
            if one.state is State.PENDING and one.route == route:
                one.end(now, replaced=True)
        self._replace_messages(dossier, lambda message: message.route == route)
        secret = Secret(Kind.PASSWORD, why, State.PENDING, now, route=route)
        secret.expires_at, secret.provisional = self._life(why)
        dossier.secrets.append(secret)
        self.messages.append(Message(dossier, why, route, now, from_known, phone))
        self._change(channel, dossier, secret)
        return secret

    def _life(self, why: Why) -> tuple[datetime, bool]:
        """2 years, 2 months, or until the cut-over and 2 years at most (R07, R09, D02)."""
        now = self._clock()
        final = why in {Why.FORGOTTEN, Why.INCIDENT} and now >= self._table.bascule
        if why is Why.OWN:
            return now + TWO_YEARS, False
        if final:
            return min(now + TWO_YEARS, self._table.cut_over or now + TWO_YEARS), False
        return now + TWO_MONTHS, True

    def _replace_messages(self, dossier: Dossier, which: Callable[[Message], bool]) -> None:
        for message in self.messages:
            if message.dossier is dossier and which(message):
                message.waiting = False

    def hand_over(self) -> None:
        """The provider takes every SMS, once those too old are gone: a day, a letter ten."""
        for message in self.messages:
            fresh = message.at + 10 * DAY > self._clock()
            message.waiting &= message.route == "letter" and fresh

    # What ends a password at once (D03)

    def separate(self, key: Key) -> Secret | None:
        """R08; told twice, it is done once until the new password is used or has expired."""
        dossier = self.dossiers[key]
        usable = [one for one in dossier.secrets if one.usable]
        if [(one.state, one.why) for one in usable] == [(State.PENDING, Why.SEPARATION)] and (
            not usable[0].expired(self._clock())
        ):
            return None
        self._end_all(dossier)
        return self._issue(dossier, Why.SEPARATION, "admin") if self.phone_open else None

    def revoke(self, key: Key, *, reissue: bool) -> Secret | None:
        self._end_all(self.dossiers[key])
        if not reissue or not self.phone_open:
            return None
        return self._issue(self.dossiers[key], Why.AGENT, "admin")

    def move(self, old: Key, new: Key) -> Secret | None:
        """A new dossier at another caisse, with the same people (R08)."""
        source = self.dossiers[old]
        self._end_all(source)
        source.closed = True
        target = Dossier(
            new, source.mobile, source.others_phones, dict(source.roles), None, source.delegated
        )
        self.dossiers[new] = target
        return self._issue(target, Why.MUTATION, "admin") if self.phone_open else None

    def _end_all(self, dossier: Dossier) -> None:
        for secret in dossier.secrets:
            secret.end(self._clock())
        self._replace_messages(dossier, lambda _: True)
        self.end_sessions(lambda session: session.dossier is dossier)

    # The web

    def may_change(self, session: Session) -> Reading:
        """The dossier's own session, where its password logs in, and never by telephone (R03)."""
        if not self.alive(session):
            return Reading.OVER
        there = session.channel != "voice" and self.number_opens(Kind.PASSWORD, session.channel)
        return Reading.READ if there and session.person is None else Reading.NOT_ALLOWED

    def change_password(self, session: Session, digits: str) -> None:
        """R04, R07: it alone works from now on, and no other session goes on."""
        dossier = session.dossier
        for secret in dossier.secrets:
            secret.end(self._clock(), replaced=True)
        self._replace_messages(dossier, lambda _: True)
        self.end_sessions(lambda other: other.dossier is dossier and other is not session)
        session.change_only = False
        self._failures.end_row(dossier.key)
        self._change(session.channel, dossier, self._own(dossier, digits, self._clock()))

    def web_ended(self, key: Key, at: datetime) -> None:
        """The web stack ended what the dossier had at that instant (R04)."""
        dossier = self.dossiers[key]
        ended = [one for one in dossier.secrets if one.usable and one.issued_at <= at]
        for secret in ended:
            secret.end(self._clock())
        self._replace_messages(dossier, lambda message: message.at <= at)
        if ended:
            self.end_sessions(lambda session: session.dossier is dossier)

    def web_created(self, key: Key, at: datetime, digits: str) -> None:
        """The owner chose one on the web stack's side, unless something here is newer (R04)."""
        dossier = self.dossiers[key]
        if any(
            one.issued_at >= at
            or (one.ended_at is not None and one.ended_at >= at and not one.replaced)
            for one in dossier.secrets
            if one.kind is Kind.PASSWORD
        ):
            return
        for secret in dossier.secrets:
            secret.end(self._clock(), replaced=True)
        self._replace_messages(dossier, lambda _: True)
        self.end_sessions(lambda session: session.dossier is dossier)
        self._failures.end_row(key)
        self._change("web", dossier, self._own(dossier, digits, at))

    def _own(self, dossier: Dossier, digits: str, at: datetime) -> Secret:
        life = at + TWO_YEARS
        secret = Secret(Kind.PASSWORD, Why.OWN, State.IN_FORCE, at, life, digits=digits)
        dossier.secrets.append(secret)
        return secret

    def choose_web_password(self, person: Person, dossier: Dossier, password: str) -> None:
        """After a code to a contact: the only one, and all the person's sessions end (R12)."""
        now = self._clock()
        for one in (*person.former, *person.web):
            one.end(now, replaced=True)
        secret = Secret(Kind.WEB, Why.OWN, State.IN_FORCE, now, digits=password)
        person.web.append(secret)
        self._change("web", dossier, secret, person)
        self.end_sessions(lambda session: session.person is person)
        self._failures.succeed(person.identifier, known=False)

    def learn_nir(self, person: Person, nir: str) -> None:
        """Only the NIR logs in from now on, and nothing carries over (R20)."""
        person.identifier = nir
        person.former, person.web = person.web, []

    # Contacts

    def change_mobile(self, dossier: Dossier, number: str | None, since: date | None) -> None:
        """Not used for 30 days, but the last trusted one; an adviser's is older at once (D04)."""
        old = dossier.mobile
        same = number == old.number
        mobile = Mobile(
            number,
            since or (old.since if same else self._today()),
            old.before if same or self._changed_lately(old) else old.number,
        )
        if mobile != old:
            self._change("admin", dossier, what="mobile")
            dossier.mobile = mobile

    def _changed_lately(self, mobile: Mobile) -> bool:
        return mobile.since is not None and self._today() - mobile.since < 30 * DAY

    def _today(self) -> date:
        return self._clock().astimezone(PARIS).date()

    # Incidents (D15)

    def raise_incident(self, scope: str) -> None:
        """Sessions of the scope end, and no new ones open while it is not lifted."""
        if scope in self.incidents:
            return
        self.incidents.add(scope)
        self.end_sessions(
            lambda one: (
                scope in {"service", f"channel:{one.channel}", f"caisse:{one.dossier.key[0]}"}
            )
        )

    def void(
        self, start: datetime, end: datetime, *, channel: str | None, caisse: str | None
    ) -> list[Secret]:
        """Take back what was changed in the window, newest first; give the passwords reissued."""
        revoked: list[Dossier] = []
        for change in reversed(self.changes):
            in_scope = channel in {None, change.channel} and caisse in {None, change.dossier.key[0]}
            if change.seen or not in_scope or not start <= change.at < end:
                continue
            change.seen = True
            if change.secret is None:
                self._put_back(change)
            elif change.secret.usable:
                change.secret.end(self._clock())
                at = change.secret.issued_at
                self._replace_messages(change.dossier, lambda one, at=at: one.at == at)  # type: ignore[misc]
                self._end_sessions_of(change)
                if change.person is None and change.dossier not in revoked:
                    revoked.append(change.dossier)
        if not self.phone_open:
            return []
        return [self._issue(dossier, Why.INCIDENT, "admin") for dossier in revoked]

    def _end_sessions_of(self, change: Change) -> None:
        """A person's web password opens all dossiers of the person."""
        self.end_sessions(
            lambda one: (
                one.dossier is change.dossier
                or (change.person is not None and one.person is change.person)
            )
        )

    def _put_back(self, change: Change) -> None:
        """Unless it was changed again since: then a person looks at it."""
        later = self.changes[self.changes.index(change) + 1 :]
        same = [one for one in later if (one.dossier, one.what) == (change.dossier, change.what)]
        if all(one.undone for one in same):
            setattr(change.dossier, change.what, change.before)
            change.undone = True

    def _change(
        self,
        channel: str,
        dossier: Dossier,
        secret: Secret | None = None,
        person: Person | None = None,
        what: str = "",
    ) -> None:
        before = getattr(dossier, what) if what else None
        change = Change(self._clock(), channel, dossier, secret, person, what, before)
        self.changes.append(change)

    # Looking

    def dossier(self, key: Key) -> Dossier | None:
        """A closed one is as good as unknown (R08)."""
        found = self.dossiers.get(key)
        return None if found is None or found.closed else found

    def open_dossiers(self) -> Iterator[Dossier]:
        return (dossier for dossier in self.dossiers.values() if not dossier.closed)


def _within(span: timedelta, now: datetime, instants: Iterable[datetime]) -> int:
    return sum(at > now - span for at in instants)
