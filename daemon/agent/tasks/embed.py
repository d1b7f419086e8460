"""`embed`: the user's text, or each of several, as a vector.

It is the model's hidden state after the final norm at the prompt's last token (pooling `last`): the one from
which the answer would begin, and the only one that has seen the whole text. A mean over all tokens would need
those whose KV is reused to be computed again.
"""

from typing import ClassVar

import numpy as np

from daemon.agent.chat import Chat, Conclusion
from daemon.agent.conversation import Turn, turns
from daemon.agent.job import Job
from daemon.agent.record import Record
from daemon.agent.tasks import texts
from daemon.errors import InvalidRequest
from daemon.tools.registry import Registry
from schemas.message import Message
from schemas.request import Request

_DIGITS = 7  # after the point: more than float32 has


class Embed:
    """`structured` is {"pooling": "last", "normalized": …, "dimensions": …, "vectors": [[…], …]}."""

    name: ClassVar[str] = "embed"
    takes_texts: ClassVar[bool] = True

    def validate(self, request: Request, registry: Registry) -> None:
        if request.response_format is not None or request.tools or request.labels:
            raise InvalidRequest(
                "task `embed` takes no `response_format`, `tools` or `labels`; leave them out."
            )

    async def run(self, job: Job, record: Record, chat: Chat, registry: Registry) -> Conclusion:
        request = job.request
        conversations: list[list[Turn]] = (
            [turns(request)]
            if request.texts is None
            else [[{"role": "user", "content": text}] for text in request.texts]
        )
        count = len(conversations)
        vectors = await chat.speaker.embed(
            job, record, conversations, lambda dimensions: texts.check(count, dimensions * (_DIGITS + 4))
        )
        wide = vectors.astype(np.float64)
        if request.normalize:
            wide = wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-12)
        structured = {
            "pooling": "last",
            "normalized": request.normalize,
            "dimensions": wide.shape[1],
            "vectors": wide.round(_DIGITS).tolist(),
        }
        return Conclusion(Message(role="assistant", content=""), "stop", structured)
