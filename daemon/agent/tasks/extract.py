"""`extract`: a JSON value under the request's schema, taken from the user's text; it is `structured`."""

import json
from typing import ClassVar

from daemon.agent.chat import Chat, Conclusion
from daemon.agent.conversation import turns
from daemon.agent.job import Job
from daemon.agent.record import Record
from daemon.agent.toolset import Toolset
from daemon.errors import InvalidRequest
from daemon.tools.registry import Registry
from schemas.request import JsonObjectFormat, JsonSchemaFormat, Request


class Extract:
    name: ClassVar[str] = "extract"

    def validate(self, request: Request, registry: Registry) -> None:
        if not isinstance(request.response_format, JsonSchemaFormat | JsonObjectFormat):
            raise InvalidRequest(
                "task `extract` needs a `response_format` of type json_schema or json_object."
            )
        if request.tools:
            raise InvalidRequest("task `extract` takes no `tools`; leave them out.")

    async def run(self, job: Job, record: Record, chat: Chat, registry: Registry) -> Conclusion:
        wanted = job.request.response_format
        system = "Extract what the user's text says, as JSON."
        if isinstance(wanted, JsonSchemaFormat):
            system += f" JSON Schema: {json.dumps(wanted.json_schema.schema_, ensure_ascii=False)}"
        return await chat.run(job, record, turns(job.request, system), Toolset(choice="none"), wanted)
