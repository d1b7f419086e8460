"""Text ⇄ token ids, conversations → prompts, tool-call formats."""

from engines.tokenizer.formats import Answer, Call, Format, Output, Shape
from engines.tokenizer.stream import TextStream
from engines.tokenizer.tokenizer import Tokenizer
from engines.tokenizer.turn import Turn

__all__ = ["Answer", "Call", "Format", "Output", "Shape", "TextStream", "Tokenizer", "Turn"]
