"""The dialects by name, and the file each is written to."""

from engines.build.graph.dialect import Dialect
from engines.build.graph.fused import Fused
from engines.build.graph.standard import Standard, StandardBFloat16

DIALECTS: dict[str, type[Dialect]] = {"fused": Fused, "standard": Standard}
FILES = {"fused": "graph.onnx", "standard": "standard.onnx"}
PLAN_DIALECT: type[Dialect] = StandardBFloat16
