"""Agents' requests: the same body over HTTP as in a file (R09)."""

from http import HTTPMethod, HTTPStatus
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from shared import agent_tasks
from shared.agent_tasks import Answer as TaskAnswer
from shared.agent_tasks import Kind, OtherTaskError, Task
from shared.api import problems
from shared.api.bodies import Strict
from shared.api.fields import CaisseCode, Number
from shared.api.problems import ProblemError
from shared.api.routes import Answer, Call, Route
from shared.apikeys import Scope

TASK_ID = r"[A-Za-z0-9_-]{1,64}"


class TaskRequest(Strict):
    """What an agent asks for; the same `task` is done once, however often it comes."""

    task: Annotated[str, Field(pattern=f"^{TASK_ID}$", examples=["2021-11-02-000417"])]
    kind: Literal["password", "first-letters"]
    caisse: CaisseCode
    number: Number
    reason: Annotated[str | None, Field(max_length=200, repr=False)] = None

    def as_task(self) -> Task:
        """Give what the store does."""
        return Task(self.task, Kind(self.kind), self.caisse, self.number, self.reason)


class TaskView(BaseModel):
    """What came of it: agents may know. A refusal says why and is kept for that task."""

    task: str
    answer: Literal["done", "refused", "unknown-account"]
    reason: Literal["too-often", "letter-under-way", "has-password", "telephone-closed"] | None = (
        None
    )

    @classmethod
    def of(cls, task: str, answer: TaskAnswer) -> "TaskView":
        """Describe an answer."""
        if answer in (TaskAnswer.DONE, TaskAnswer.UNKNOWN_ACCOUNT):
            return cls.model_validate({"task": task, "answer": answer.value})
        return cls.model_validate({"task": task, "answer": "refused", "reason": answer.value})


def _do(call: Call, body: TaskRequest) -> Answer:
    try:
        answer = agent_tasks.do(call.store, body.as_task(), call.client)
    except OtherTaskError:
        raise ProblemError(problems.TASK_REUSED) from None
    return Answer(HTTPStatus.OK, TaskView.of(body.task, answer))


ROUTES = (
    Route(
        method=HTTPMethod.POST,
        path="/v1/agent-tasks",
        summary="Have a provisional password sent at an agent's request",
        handle=_do,
        request=TaskRequest,
        answers={HTTPStatus.OK: TaskView},
        problems=(problems.TASK_REUSED,),
        scope=Scope.TASKS,
    ),
)
