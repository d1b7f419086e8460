"""Whether what a model writes can be held to the arguments of a tool."""

import re

from daemon.tools.errors import ToolDeclarationError
from daemon.tools.tool import Tool
from engines.errors import GrammarError
from engines.serve.grammar import Grammar
from engines.tokenizer.errors import ToolSchemaRefused
from engines.tokenizer.formats.glm4 import Glm4
from engines.tokenizer.formats.glm45 import Glm45

# All arguments as one JSON value, and each by itself with bare strings: the others write the same parts.
_FORMATS = (Glm4({}, write_defaults=True), Glm45({}, write_defaults=True))
# The lines of the grammar that llguidance shows below its error.
_LISTING = re.compile(r"\n *\d+ \| .*", re.DOTALL)


def check(tool: Tool) -> None:
    """Raises ToolDeclarationError where some model family could not call the tool: a grammar is made of all
    tools that a request shows, so that every such request would be rejected. Takes milliseconds."""
    try:
        for format_ in _FORMATS:
            Grammar.lark(format_.grammar([tool.schema], "required"))
    except (GrammarError, ToolSchemaRefused) as error:
        raise ToolDeclarationError(
            f"tool {tool.name!r} ({tool.origin}): a model cannot be held to its arguments: {reason(error)}; "
            "use simpler types (list for set, str for Path or bytes), take that keyword or the tool out."
        ) from error


def reason(error: GrammarError | ToolSchemaRefused) -> str:
    """What whoever wrote the schema can change, on one line, without the grammar that we made around it."""
    told = _LISTING.sub("", str(error))
    return " ".join((told.partition("failed to compile JSON schema: ")[2] or told).split())
