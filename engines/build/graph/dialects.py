"""The dialects by name, and the file each is written to."""

from engines.build.graph.dialect import Dialect
from engines.build.graph.fused import Fused

DIALECTS: dict[str, type[Dialect]] = {"fused": Fused}
FILES = {"fused": "graph.onnx", "standard": "standard.onnx"}
