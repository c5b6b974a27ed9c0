"""What the installation's texts say of messages that others want sent: clients and campaigns."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from shared.campaigns import Plan
from shared.client_messages import Misfit
from shared.models import Route
from sms import gsm7
from sms.templates import DEFAULT_FILE, LINK, NOTICE, WRITE, Templates, of_subject

MOST_SEGMENTS = 3  # SMS of one text (D14: one where possible)
LONGEST_MAIL = 10_000  # characters
ROUTES = (Route.SMS, Route.MAIL)


@dataclass(frozen=True)
class CampaignTexts:
    """The store's `Texts`: templates by route, and the rules of D14 for texts of no template."""

    templates: Mapping[Route, Templates]

    @classmethod
    def load(cls, path: Path = DEFAULT_FILE) -> Self:
        """Read the file of templates; SettingsError."""
        return cls({route: Templates.load(path, route) for route in ROUTES})

    def judge(
        self, template: str, variables: Mapping[str, str], route: Route = Route.SMS
    ) -> Sequence[Misfit]:
        """Say why nobody can have such a message sent; nothing if one can."""
        return self.templates[route].judge(template, variables)

    def judge_plan(self, plan: Plan) -> Sequence[Misfit]:
        """Say why there can be no such campaign, whoever gets it."""
        return [*self._of_sender(plan), *_of_subject(plan), *self._of_text(plan)]

    def variables(self, plan: Plan) -> Collection[str]:
        """Give what each recipient's message is filled with."""
        return () if plan.text is not None else self.templates[plan.route].longest[plan.template]

    def written(self, plan: Plan) -> Plan:
        """Give a plan with its own text as the route can carry it."""
        if plan.text is None:
            return plan
        return replace(plan, text=WRITE[plan.route](plan.text.strip()))

    def segments(self, plan: Plan) -> int:
        """Say how many SMS each message takes; a template never needs a second one."""
        if plan.route is not Route.SMS:
            return 0
        return 1 if plan.text is None else len(gsm7.segments(plan.text))

    def can_be_answered(self, plan: Plan) -> bool:
        """Say whether whoever gets it can write STOP to its sender (R24, D14)."""
        texts = self.templates[plan.route]
        sender = plan.sender or texts.sender(plan.template)
        return plan.route is not Route.SMS or sender in texts.numbers

    def _of_sender(self, plan: Plan) -> Iterator[Misfit]:
        """Let nobody write under a name that the installation does not use (D14)."""
        if plan.sender is None:
            if plan.text is not None:
                yield Misfit("sender", "missing")
        elif plan.sender not in self.templates[Route.SMS].senders:
            yield Misfit("sender", "unknown")

    def _of_text(self, plan: Plan) -> Iterator[Misfit]:
        if plan.text is not None:
            yield from _of_free_text(plan.route, plan.text.strip())
        elif plan.template not in self.templates[plan.route].longest or not (
            plan.template.startswith(NOTICE)
        ):
            yield Misfit("template", "unknown")


def _of_subject(plan: Plan) -> Iterator[Misfit]:
    if plan.route is Route.MAIL and plan.text is not None and plan.subject is None:
        yield Misfit("subject", "missing")
    if plan.subject is not None:
        if plan.route is not Route.MAIL:
            yield Misfit("subject", "extra_forbidden")
        elif list(of_subject(plan.subject)):
            yield Misfit("subject", "refused")


def _of_free_text(route: Route, text: str) -> Iterator[Misfit]:
    """Say what D14 has against a text that has no variables."""
    written = WRITE[route](text)
    if _is_too_long(route, written):  # to search it might take long
        yield Misfit("text", "too_long")
        return
    wrong = {
        "missing": not text,
        "variable": "{" in text or "}" in text,
        "link": LINK.search(text) or LINK.search(written),
        "control_character": not all(one.isprintable() or one == "\n" for one in text),
        "not_gsm7": written.count("?") > text.count("?"),
    }
    yield from (Misfit("text", reason) for reason, holds in wrong.items() if holds)


def _is_too_long(route: Route, written: str) -> bool:
    if route is Route.SMS:
        return len(gsm7.segments(written)) > MOST_SEGMENTS
    return len(written) > LONGEST_MAIL
