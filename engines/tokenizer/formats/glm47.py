"""GLM-4.7: the marks of GLM-4.5 without line ends. Source: chat_template.jinja of zai-org/GLM-4.7."""

from typing import ClassVar

from engines.tokenizer.formats.glm45 import Glm45


class Glm47(Glm45):
    name: ClassVar[str] = "glm47"
    line_end: ClassVar[str] = ""
    answer_lead: ClassVar[str] = ""
