"""The ONNX graph in the making (floor 8): nodes, constants and names, typed by ONNX's own schemas.

A `Value` is the name of a tensor with its dtype. Ops that ONNX does not have for a dtype are
computed in a wider one and cast back, which changes no value: products and sums of integers wrap
to the same bits, and 16-bit floats are rounded once.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np
import onnx

from graphc.base.dtypes import (
    Array,
    DType,
    bfloat16,
    bool_,
    float16,
    float32,
    float64,
    int8,
    int16,
    int32,
    int64,
    to_storage,
    uint8,
    uint16,
    uint32,
    uint64,
)
from graphc.base.errors import UnsupportedError, message
from graphc.ir import provenance
from graphc.ir.node import Node, TensorType, describe
from graphc.onnx.elements import ELEMENTS, NAMES

# Dtypes that hold every value of a dtype, the nearest first.
_WIDER: dict[DType, tuple[DType, ...]] = {
    bool_: (int32, int64),
    int8: (int32, int64),
    int16: (int32, int64),
    int32: (int64,),
    uint8: (int32, int64, uint32, uint64),
    uint16: (int32, int64, uint32, uint64),
    uint32: (int64, uint64),
    float16: (float32,),
    bfloat16: (float32,),
    float32: (float64,),
}


def type_number(dtype: DType) -> int:
    """The number of a dtype in ONNX's files."""
    return ELEMENTS[dtype]


@functools.cache
def _schema(op_type: str, opset: int) -> onnx.defs.OpSchema:
    return onnx.defs.get_schema(op_type, opset, "")


@functools.cache
def exists(op_type: str, opset: int) -> bool:
    """Whether ONNX has an operator at an opset."""
    if not onnx.defs.has(op_type):
        return False
    try:
        _schema(op_type, opset)
    except onnx.defs.SchemaError:  # it came later
        return False
    return True


@functools.cache
def takes(op_type: str, opset: int, operand: int, dtype: DType) -> bool:
    """Whether an operand of an operator may have a dtype."""
    inputs = _schema(op_type, opset).inputs
    allowed = inputs[min(operand, len(inputs) - 1)].types
    return f"tensor({NAMES[ELEMENTS[dtype]]})" in allowed


@dataclass(frozen=True)
class Value:
    """A tensor of the ONNX graph: its name and dtype."""

    name: str
    dtype: DType


@dataclass
class Scope:
    """The nodes of one ONNX graph: the whole model, or a body of If, Loop and Scan.

    known: values that were made here and may be used again, by a key of what they are.
    """

    parent: Scope | None = None
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    types: dict[str, TensorType] = field(default_factory=dict)
    known: dict[Any, Value] = field(default_factory=dict)

    def find(self, key: Any) -> Value | None:
        """A value of this graph or of one around it."""
        scope: Scope | None = self
        while scope is not None:
            if key in scope.known:
                return scope.known[key]
            scope = scope.parent
        return None


class Writer:
    """Makes ONNX nodes for graphc nodes, one after another.

    node: the graphc node that is being exported, for errors and for the documentation of nodes.
    """

    def __init__(self, opset: int, provenance: bool) -> None:
        self.opset = opset
        self.scope = Scope()
        self.initializers: list[onnx.TensorProto] = []
        self.node: Node | None = None
        self._provenance = provenance
        self._used: set[str] = set()
        self._counts: dict[str, int] = {}
        self._finished: set[str] = set()
        self._constants: dict[Any, Value] = {}

    # -- names ------------------------------------------------------------------------------------
    def reserve(self, name: str) -> str:
        """Keep a name for what asked for it. Returns it."""
        self._used.add(name)
        return name

    def unique(self, wanted: str) -> str:
        """`wanted`, or with a number behind it where it is taken."""
        name = wanted
        while name in self._used:
            k = self._counts.get(wanted, 0)
            self._counts[wanted] = k + 1
            name = f"{wanted}_{k}"
        self._used.add(name)
        return name

    # -- nodes ------------------------------------------------------------------------------------
    def nodes(
        self, op_type: str, inputs: Sequence[Value | None], dtypes: Sequence[DType], **attrs: Any
    ) -> list[Value]:
        """One ONNX node; its results. None is an operand that is left out."""
        if not exists(op_type, self.opset):
            self.refuse(f"ONNX has no {op_type} at opset {self.opset}", "export to a newer opset")
        for k, x in enumerate(inputs):
            if x is not None and not takes(op_type, self.opset, k, x.dtype):
                self.refuse(f"{op_type} of ONNX opset {self.opset} does not take {x.dtype}")
        outputs = [Value(self.unique(op_type), dtype) for dtype in dtypes]
        proto = onnx.helper.make_node(
            op_type,
            ["" if x is None else x.name for x in inputs],
            [v.name for v in outputs],
            name=outputs[0].name,
            doc_string=self._place(),
            **attrs,
        )
        self.scope.nodes.append(proto)
        return outputs

    def op(self, op_type: str, *inputs: Value | None, dtype: DType, **attrs: Any) -> Value:
        """One ONNX node with one result of `dtype`."""
        return self.nodes(op_type, inputs, [dtype], **attrs)[0]

    def compute_dtype(self, op_type: str, dtype: DType) -> DType:
        """The dtype in which an operator computes values of `dtype`: itself, or a wider one.

        Raises UnsupportedError where there is none.
        """
        for candidate in (dtype, *_WIDER.get(dtype, ())):
            if takes(op_type, self.opset, 0, candidate):
                return candidate
        self.refuse(f"{op_type} of ONNX opset {self.opset} does not take {dtype}")

    def apply(
        self,
        op_type: str,
        *operands: Value,
        extra: Sequence[Value] = (),
        result: DType | None = None,
        compute: DType | None = None,
        **attrs: Any,
    ) -> Value:
        """An operator on operands of one dtype, whose result has that dtype (or `result`).

        compute: the dtype to compute in; the nearest that ONNX takes by default. extra: further
        operands with dtypes of their own.
        """
        dtype = operands[0].dtype
        wide = self.compute_dtype(op_type, compute or dtype)
        inner = [self.cast(x, wide) for x in operands]
        found = self.op(op_type, *inner, *extra, dtype=result or wide, **attrs)
        return self.cast(found, result or dtype)

    def cast(self, x: Value, dtype: DType) -> Value:
        """x in another dtype; x itself where it has it."""
        if x.dtype is dtype:
            return x
        return self.op("Cast", x, dtype=dtype, to=type_number(dtype))

    def subgraph(
        self,
        name: str,
        inputs: Sequence[tuple[Value, TensorType]],
        write: Callable[[], list[tuple[Value, TensorType]]],
    ) -> onnx.GraphProto:
        """The body of If, Loop or Scan. write: makes its nodes and gives its outputs."""
        outer = self.scope
        self.scope = Scope(outer)
        try:
            outputs: list[onnx.ValueInfoProto] = []
            made: set[str] = set()
            for value, tensor_type in write():
                own = any(value.name in proto.output for proto in self.scope.nodes)
                if not own or value.name in made:  # each output is a value of the body, its own
                    value = self.op("Identity", value, dtype=value.dtype)
                made.add(value.name)
                outputs.append(value_info(value.name, tensor_type))
            scope = self.scope
        finally:
            self.scope = outer
        return onnx.helper.make_graph(
            scope.nodes,
            self.unique(name),
            [value_info(v.name, t) for v, t in inputs],
            outputs,
            value_info=[value_info(n, t) for n, t in scope.types.items() if n not in made],
        )

    # -- constants --------------------------------------------------------------------------------
    def constant(self, values: Any, dtype: DType, name: str = "constant") -> Value:
        """A known array (reference form) as an initializer; equal ones are stored once."""
        return self.stored(to_storage(np.asarray(values, dtype.numpy), dtype), dtype, name)

    def stored(self, array: Array, dtype: DType, name: str, own: bool = False) -> Value:
        """The initializer of elements in stored form. own: under just this name (a variable)."""
        key = (dtype.name, array.shape, array.tobytes()) if array.size <= 4096 else id(array)
        if not own and key in self._constants:
            return self._constants[key]
        label = name if own else self.unique(name)
        value = Value(label, dtype)
        self.initializers.append(tensor_proto(array, dtype, label))
        if not own:
            self._constants[key] = value
        return value

    def ints(self, values: Sequence[int]) -> Value:
        """A vector of int64."""
        return self.constant(np.asarray(values, np.int64).reshape(-1), int64)

    def number(self, value: Any, dtype: DType) -> Value:
        """A 0-d constant."""
        return self.constant(np.asarray(value), dtype)

    # -- shapes -----------------------------------------------------------------------------------
    def transpose(self, x: Value, axes: Sequence[int]) -> Value:
        """x with its dims in another order; x itself for the identity."""
        if list(axes) == list(range(len(axes))):
            return x
        return self.op("Transpose", x, dtype=x.dtype, perm=list(axes))

    def unsqueeze(self, x: Value, axes: Sequence[int]) -> Value:
        """x with new dims of size 1 at places of the result."""
        return self.op("Unsqueeze", x, self.ints(axes), dtype=x.dtype) if axes else x

    def squeeze(self, x: Value, axes: Sequence[int]) -> Value:
        """x without dims of size 1."""
        return self.op("Squeeze", x, self.ints(axes), dtype=x.dtype) if axes else x

    # -- results ----------------------------------------------------------------------------------
    def finish(self, value: Value, start: int, name: str, wanted: bool) -> Value:
        """Give the result of a graphc node its name. start: the number of nodes before it was made.

        wanted: the name is the user's, so that a value that was there before is copied to have it;
        else it keeps the name that it has.
        """
        fresh = self.scope.nodes[start:]
        if not any(value.name in proto.output for proto in fresh):
            if not wanted:
                return value
            if self._is_other_result(value):
                fresh = self.scope.nodes
            else:
                start = len(self.scope.nodes)
                value = self.op("Identity", value, dtype=value.dtype)
                fresh = self.scope.nodes[start:]
        self._finished.add(name)
        for proto in fresh:
            for names in (proto.input, proto.output):
                for k, old in enumerate(names):
                    if old == value.name:
                        names[k] = name
            if name in proto.output:
                proto.name = name
        for key, known in self.scope.known.items():
            if known.name == value.name:
                self.scope.known[key] = Value(name, known.dtype)
        return Value(name, value.dtype)

    def _is_other_result(self, value: Value) -> bool:
        """Whether a value without a lasting name is one of several results of its node."""
        if value.name in self._finished:
            return False
        producer = (p for p in reversed(self.scope.nodes) if value.name in p.output)
        return any(len(p.output) > 1 for p in producer)

    def _place(self) -> str | None:
        if not self._provenance or self.node is None:
            return None
        places = provenance.locations(self.node)
        return str(places[0]) if places else None

    def refuse(self, why: str, hint: str | None = None) -> NoReturn:
        """Raise UnsupportedError for the node that is being exported."""
        node = self.node
        what = "the graph" if node is None else node.op.name
        raise UnsupportedError(
            message(
                f"export to ONNX: {what}: {why}",
                operands=[] if node is None else [describe(x) for x in (node, *node.inputs)],
                at=None if node is None else provenance.where(node),
                hint=hint,
            )
        )


def tensor_proto(array: Array, dtype: DType, name: str) -> onnx.TensorProto:
    """Stored elements as a tensor of the file."""
    if sys.byteorder == "big":
        array = array.astype(array.dtype.newbyteorder("<"))
    proto = onnx.TensorProto(data_type=type_number(dtype), name=name, dims=array.shape)
    proto.raw_data = array.tobytes()
    return proto


def type_proto(tensor_type: TensorType) -> onnx.TypeProto:
    """A type with its sizes: numbers, or the text of symbolic ones."""
    shape = [size if isinstance(size, int) else str(size) for size in tensor_type.shape]
    return onnx.helper.make_tensor_type_proto(type_number(tensor_type.dtype), shape)


def value_info(name: str, tensor_type: TensorType) -> onnx.ValueInfoProto:
    """The declaration of a value."""
    return onnx.helper.make_value_info(name, type_proto(tensor_type))
