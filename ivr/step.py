"""What a step of a call is: a handler's class, filled in by the call script (design idea 6).

A handler is a subclass of `Step` in a file of `ivr/handlers`. Its fields are what the script must
give: prompts to say, steps to go to. Its `run` reads as that part of the call.
"""

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

if TYPE_CHECKING:
    from ivr.call import Call


class Reference(str):
    """A name in the call script of something that must exist elsewhere in it."""

    __slots__ = ()

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Read a string as this kind of reference."""
        return core_schema.no_info_after_validator_function(cls, core_schema.str_schema())


class PromptId(Reference):
    """A prompt of the catalogue."""

    __slots__ = ()


class StepId(Reference):
    """A step of the script."""

    __slots__ = ()


class CaisseId(Reference):
    """A caisse of the table of caisses."""

    __slots__ = ()


class LineId(Reference):
    """A line: the number called."""

    __slots__ = ()


class HoursId(Reference):
    """Opening hours."""

    __slots__ = ()


class PlatformId(Reference):
    """A platform of advisers."""

    __slots__ = ()


class ScriptTable(BaseModel):
    """A table of the call script: no unknown keys, never changed after it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Question(ScriptTable):
    """How something is asked: a longer prompt at each try, and what is said in between (D18)."""

    ask: tuple[PromptId, ...]
    noinput: PromptId
    nomatch: PromptId


class Step(ScriptTable):
    """A step of a call; subclasses are the handlers, known to the script by `handler`."""

    handlers: ClassVar[dict[str, type["Step"]]] = {}

    identifies: ClassVar[bool] = False  # asks who calls: in vain while an incident stands (D15)
    parts: ClassVar[bool] = False  # the caller is on the way out, incident or not

    def __init_subclass__(cls, *, handler: str = "", **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if handler:
            Step.handlers[handler] = cls

    def run(self, call: "Call") -> StepId | None:
        """Do this part of the call; give the next step, or None when the call is over."""
        raise NotImplementedError
