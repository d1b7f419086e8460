"""A thin wrapper around onnx.helper: nodes by operator name, weights streamed to an external data file."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import ml_dtypes
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

OPSET = 24
IR_VERSION = 11
MICROSOFT = "com.microsoft"
_ALIGN = 4096  # a page, so that a runtime can map weights instead of copying them
_INLINE_BYTES = 1024

_TYPES: dict[str, int] = {
    "float32": TensorProto.FLOAT,
    "bfloat16": TensorProto.BFLOAT16,
    "float16": TensorProto.FLOAT16,
    "float8": TensorProto.FLOAT8E4M3FN,
    "int4": TensorProto.INT4,
    "int8": TensorProto.INT8,
    "uint8": TensorProto.UINT8,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
    "bool": TensorProto.BOOL,
}


class GraphBuilder:
    """Collects one graph; use as a context manager, then `save`. Values are passed by name."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.data_path = path.with_name(path.name + ".data")
        self._data = self.data_path.open("wb")
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: list[TensorProto] = []
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._placed: dict[str, tuple[int, int]] = {}
        self._count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._data.close()

    def input(self, name: str, dtype: str, shape: Iterable[int | str]) -> str:
        self._inputs.append(helper.make_tensor_value_info(name, _TYPES[dtype], list(shape)))
        return name

    def output(self, name: str, dtype: str, shape: Iterable[int | str] | None) -> str:
        """An output; without a shape the runtime infers it."""
        dims = None if shape is None else list(shape)
        self._outputs.append(helper.make_tensor_value_info(name, _TYPES[dtype], dims))
        return name

    def nodes(
        self, op: str, inputs: Iterable[str], outputs: int | list[str], domain: str = "", **attrs: Any
    ) -> list[str]:
        """Add a node; `outputs` names them, or counts those to be named by the builder."""
        self._count += 1
        label = f"{op}_{self._count}"
        names = [f"{label}_{i}" for i in range(outputs)] if isinstance(outputs, int) else outputs
        self._nodes.append(helper.make_node(op, list(inputs), names, name=label, domain=domain, **attrs))
        return names

    def node(self, op: str, *inputs: str, domain: str = "", **attrs: Any) -> str:
        """Add a node of one output and return its name."""
        return self.nodes(op, inputs, 1, domain, **attrs)[0]

    def constant(self, values: Any, dtype: str = "int64") -> str:
        """A small constant; equal ones are stored once."""
        array = np.asarray(values, _numpy(dtype))
        key = (dtype, array.shape, array.tobytes())
        if key not in self._constants:
            name = f"constant_{len(self._constants)}"
            self._constants[key] = self.weight(name, dtype, array.shape, [array])
        return self._constants[key]

    def weight(self, name: str, dtype: str, shape: Iterable[int], chunks: Iterable[NDArray[Any]]) -> str:
        """An initializer whose bytes are the chunks' bytes end to end, written as they come."""
        tensor = TensorProto(name=name, data_type=_TYPES[dtype], dims=list(shape))
        self._initializers.append(tensor)
        small = int(np.prod(tensor.dims)) * 4 <= _INLINE_BYTES
        if small:
            tensor.raw_data = b"".join(np.ascontiguousarray(chunk).tobytes() for chunk in chunks)
            return name
        self._data.write(b"\0" * (-self._data.tell() % _ALIGN))
        begin = self._data.tell()
        for chunk in chunks:
            self._data.write(np.ascontiguousarray(chunk).view(np.uint8).data)
        self._place(tensor, begin, self._data.tell() - begin)
        return name

    def alias(self, name: str, of: str, shape: Iterable[int]) -> str:
        """A second initializer, of another shape, over the bytes of weight `of` (not an inline one)."""
        source = next(tensor for tensor in self._initializers if tensor.name == of)
        tensor = TensorProto(name=name, data_type=source.data_type, dims=list(shape))
        self._initializers.append(tensor)
        if source.HasField("raw_data"):
            tensor.raw_data = source.raw_data
        else:
            self._place(tensor, *self._placed[of])
        return name

    def save(self) -> None:
        """Write the graph file beside its data file."""
        self._data.flush()
        graph = helper.make_graph(
            self._nodes, self.path.stem, self._inputs, self._outputs, self._initializers
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)]
        model = helper.make_model(
            graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="open-autoglm"
        )
        self.path.write_bytes(model.SerializeToString())

    def _place(self, tensor: TensorProto, offset: int, length: int) -> None:
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", self.data_path.name), ("offset", offset), ("length", length)):
            tensor.external_data.add(key=key, value=str(value))
        self._placed[tensor.name] = (offset, length)


def _numpy(dtype: str) -> np.dtype[Any]:
    special = {"bfloat16": ml_dtypes.bfloat16, "float8": ml_dtypes.float8_e4m3fn}
    found: np.dtype[Any] = np.dtype(special.get(dtype, dtype))
    return found
