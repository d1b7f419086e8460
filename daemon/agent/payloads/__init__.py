"""The kinds of payloads by name. A tool module adds its own with `openautoglm.register_payload`."""

from daemon.agent.payloads.csv import CsvPayload
from daemon.agent.payloads.json import JsonPayload
from daemon.agent.payloads.kind import PayloadKind
from daemon.agent.payloads.text import TextPayload
from daemon.agent.payloads.xml import XmlPayload
from daemon.agent.plugins import Plugins
from daemon.errors import InvalidRequest
from schemas.payload import Payload

__all__ = ["PayloadKind", "register_payload", "text_of"]

_kinds = Plugins[PayloadKind]("payload kind", TextPayload(), JsonPayload(), XmlPayload(), CsvPayload())


def register_payload(kind: PayloadKind) -> PayloadKind:
    """Make a kind of payload known under its name. Raises ConfigurationError when the name is taken."""
    return _kinds.add(kind)


def text_of(payload: Payload) -> str:
    """What the model reads of a payload. Raises InvalidRequest."""
    kind = _kinds.get(payload.type)
    if kind is None:
        raise InvalidRequest(f"payload: there is no type {payload.type!r}; use one of: {', '.join(_kinds)}.")
    try:
        return kind.text(payload.data)
    except ValueError as error:
        raise InvalidRequest(f"payload: not valid {payload.type}: {error}.") from error
