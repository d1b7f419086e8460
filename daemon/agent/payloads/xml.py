"""XML: well-formed, without a document type, which could define entities that grow without bound."""

import re
from typing import Any, ClassVar
from xml.parsers import expat

from daemon.agent.payloads.kind import string

# Of a well-formed document; what is between is text.
_MARKUP = re.compile(
    r"""(<!--.*?-->|<\?.*?\?>|<!\[CDATA\[.*?\]\]>|<(?:[^"'>]++|"[^"]*"|'[^']*')*>)""", re.DOTALL
)
_LINE_ENDS = re.compile(r"[ \t]*[\r\n][ \t\r\n]*")


class XmlPayload:
    """As it came, but for white space with line ends between elements, which becomes one line end."""

    name: ClassVar[str] = "xml"

    def text(self, data: Any) -> str:
        text = string(data).strip()
        _check(text)
        parts = _MARKUP.split(text)
        for place in range(2, len(parts) - 1, 2):  # text is at the even places, markup at the odd ones
            between_elements = not any(parts[place + side].startswith("<![CDATA[") for side in (-1, 1))
            if between_elements and _LINE_ENDS.fullmatch(parts[place]):
                parts[place] = "\n"
        return "".join(parts)


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
