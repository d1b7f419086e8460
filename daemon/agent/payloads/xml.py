"""XML: well-formed, without a document type, which could define entities that grow without bound."""

from typing import Any, ClassVar
from xml.parsers import expat

from daemon.agent.payloads.kind import string


class XmlPayload:
    """As it came, but for white space between elements."""

    name: ClassVar[str] = "xml"

    def text(self, data: Any) -> str:
        text = string(data).strip()
        _check(text)
        return "\n".join(filter(None, map(str.strip, text.splitlines())))


def _check(text: str) -> None:
    def refuse(*_: object) -> None:
        raise ValueError("a document type declaration is not accepted")

    # The text's own encoding, whatever the declaration says of the bytes that it once was.
    parser = expat.ParserCreate("utf-8")
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(text.encode("utf-8", "replace"), True)
    except expat.ExpatError as error:
        raise ValueError(str(error)) from error
