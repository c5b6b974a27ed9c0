"""What all callers of some lines or caisses are told for a time (announcements.toml)."""

from ivr.call import Call
from ivr.step import PromptId


def interrupt(call: Call) -> None:
    """Say the emergencies, to their end: what was typed ahead is asked for again."""
    if prompts := _due(call, emergency=True):
        call.dialogue.say(*prompts)
        call.dialogue.announce()
        call.dialogue.forget_keys()


def announce(call: Call) -> None:
    """Say the emergencies, and the rest before the next question; each once a call."""
    interrupt(call)
    call.dialogue.say(*_due(call, emergency=False))


def _due(call: Call, *, emergency: bool) -> list[PromptId]:
    now = call.store.clock()
    due = {
        name: one.prompt
        for name, one in call.script.announcements.items()
        if one.emergency is emergency
        and name not in call.announced
        and one.is_for(call.record.line, call.caisse)
        and one.holds_at(now, call.caisse)
    }
    call.announced.update(due)
    return list(due.values())
