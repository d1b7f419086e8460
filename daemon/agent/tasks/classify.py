"""`classify`: which of the request's labels fits, and how likely each is.

The probabilities are those with which the model, held to the labels, would write each: token by token it
chooses among those that go on to a label, and what leaves no choice does not count, expected or not. They
come from the prefill of the prompt: nothing is generated.
"""

from typing import Any, ClassVar

from daemon.agent.chat import Chat, Conclusion
from daemon.agent.conversation import Turn, turns
from daemon.agent.job import Job
from daemon.agent.record import Record
from daemon.agent.tasks import texts
from daemon.errors import InvalidRequest
from daemon.tools.registry import Registry
from schemas.message import Message
from schemas.request import Request

_PROBABILITY = 14  # characters of JSON, with what stands between


class Classify:
    """`structured` is {"label": …, "probabilities": {label: …}}; with `texts` a list of these."""

    name: ClassVar[str] = "classify"
    takes_texts: ClassVar[bool] = True

    def validate(self, request: Request, registry: Registry) -> None:
        labels = request.labels
        if not labels:
            raise InvalidRequest("task `classify` needs `labels`, the list to choose from.")
        if len(set(labels)) < len(labels) or "" in labels:
            raise InvalidRequest("labels: one is empty or there twice; take it out.")
        if request.response_format is not None or request.tools:
            raise InvalidRequest(
                "task `classify` takes neither `response_format` nor `tools`; leave them out."
            )
        texts.check(len(request.texts or ""), sum(len(label) + _PROBABILITY for label in labels))

    async def run(self, job: Job, record: Record, chat: Chat, registry: Registry) -> Conclusion:
        request, labels = job.request, job.request.labels or []
        system = f"Classify the user's text. Answer with one of these labels: {', '.join(labels)}"
        conversations: list[list[Turn]] = (
            [turns(request, system)]
            if request.texts is None
            else [
                [{"role": "system", "content": system}, {"role": "user", "content": text}]
                for text in request.texts
            ]
        )
        weights = await chat.speaker.weigh(job, record, conversations, labels)
        found = [_verdict(labels, probabilities) for probabilities in weights]
        message = Message(role="assistant", content="\n".join(verdict["label"] for verdict in found))
        return Conclusion(message, "stop", found[0] if request.texts is None else found)


def _verdict(labels: list[str], probabilities: list[float]) -> dict[str, Any]:
    best = max(range(len(labels)), key=probabilities.__getitem__)
    return {
        "label": labels[best],
        "probabilities": dict(zip(labels, (round(p, 6) for p in probabilities), strict=True)),
    }
