"""What ONNX says of its operators (floor 8): schemas, attributes with defaults, function bodies."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import onnx
import onnx.defs

from graphc.onnx.elements import name_of
from graphc.onnx.refusal import bad, shown
from graphc.onnx.tensors import TensorReader
from graphc.onnx.values import (
    ForeignValue,
    OptionalValue,
    SequenceValue,
    TensorValue,
    Value,
    static_shape,
)

_SINGLE = {1: "f", 2: "i", 5: "g"}
_LISTS = {6: "floats", 7: "ints", 10: "graphs"}
_TYPE_NAMES = {
    0: "nothing",
    1: "a float",
    2: "an int",
    3: "a string",
    4: "a tensor",
    5: "a graph",
    6: "floats",
    7: "ints",
    8: "strings",
    9: "tensors",
    10: "graphs",
    11: "a sparse tensor",
    12: "sparse tensors",
    13: "a type",
    14: "types",
}


@functools.cache
def schema_of(domain: str, name: str, version: int) -> Any:
    """The schema of an operator at a version of its domain; None where there is none."""
    try:
        return onnx.defs.get_schema(name, version, domain)
    except onnx.defs.SchemaError:
        return None


def resolved(attribute: Any, outer: Mapping[str, Any] | None) -> Any:
    """An attribute with a reference to one of the function around it followed; None: not given."""
    if not attribute.ref_attr_name:
        return attribute
    return None if outer is None else outer.get(attribute.ref_attr_name)


def checked_attributes(
    node: Any,
    schema: Any,
    where: str,
    outer: Mapping[str, Any] | None,
    tensors: TensorReader,
    operands: int,
) -> dict[str, Any]:
    """A node's attributes as Python values, the schema's defaults filled in.

    The numbers of operands and outputs are checked too. Raises FormatError.
    """
    for count, least, most, what in (
        (operands, schema.min_input, schema.max_input, "operands"),
        (len(node.output), schema.min_output, schema.max_output, "outputs"),
    ):
        if not least <= count <= most:
            due = f"{least}" if least == most else f"{least} to {most}"
            bad(where, f"it has {count} {what}, expected {due}")
    found = dict(_defaults(schema))
    seen: set[str] = set()
    for proto in node.attribute:
        if proto.name in seen:
            bad(where, f"the attribute {shown(proto.name)} is given twice")
        seen.add(proto.name)
        declared = schema.attributes.get(proto.name)
        if declared is None:
            bad(
                where,
                f"the attribute {shown(proto.name)} is unknown to {node.op_type}",
                f"it has: {', '.join(schema.attributes) or 'none'}",
            )
        actual = resolved(proto, outer)
        if actual is None:
            continue
        expected = int(declared.type.value)
        kind = actual.type or expected
        if kind != expected:
            bad(
                where,
                f"the attribute {shown(proto.name)} is {_TYPE_NAMES.get(kind, kind)}, expected "
                f"{_TYPE_NAMES[expected]}",
            )
        found[proto.name] = _read(actual, kind, f"{where}: attribute {shown(proto.name)}", tensors)
    for name, declared in schema.attributes.items():
        if declared.required and name not in found:
            bad(where, f"the attribute {shown(name)} is missing")
    return found


@functools.lru_cache(maxsize=4096)
def _defaults_of(domain: str, name: str, version: int) -> dict[str, Any]:
    schema = onnx.defs.get_schema(name, version, domain)
    found: dict[str, Any] = {}
    for key, declared in schema.attributes.items():
        proto = declared.default_value
        if proto.name:
            found[key] = _read(proto, proto.type, f"{name}: {key}", None)
    return found


def default_protos(schema: Any) -> dict[str, Any]:
    """The attributes that an operator has where a node gives none."""
    protos = {name: a.default_value for name, a in schema.attributes.items()}
    return {name: proto for name, proto in protos.items() if proto.name}


def _defaults(schema: Any) -> dict[str, Any]:
    return _defaults_of(schema.domain, schema.name, schema.since_version)


def _read(proto: Any, kind: int, where: str, tensors: TensorReader | None) -> Any:
    if kind in _SINGLE:
        return getattr(proto, _SINGLE[kind])
    if kind in _LISTS:
        return list(getattr(proto, _LISTS[kind]))
    if kind == 3:
        return _text(proto.s, where)
    if kind == 8:
        return [_text(s, where) for s in proto.strings]
    if kind == 13:
        return proto.tp
    assert tensors is not None
    if kind == 4:
        return tensors.read(where, proto.t)
    if kind == 9:
        return [tensors.read(where, t) for t in proto.tensors]
    if kind == 11:
        return tensors.sparse(where, proto.sparse_tensor)
    bad(where, f"attributes that are {_TYPE_NAMES.get(kind, kind)} are not supported")


def _text(raw: bytes, where: str) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        bad(where, f"it is no UTF-8 text at byte {error.start}")


# -- types ----------------------------------------------------------------------------------------


def check_types(schema: Any, inputs: Sequence[Value | None], where: str) -> None:
    """Raise FormatError where operands are of types that the operator does not take, or differ
    where it wants the same.

    A type that a later version of the operator takes is let through: files run ahead of their
    opset in this.
    """
    bound: dict[str, str] = {}
    for k, value in enumerate(inputs):
        if not isinstance(value, TensorValue):
            continue
        formal = schema.inputs[min(k, len(schema.inputs) - 1)]
        kind = f"tensor({name_of(value.element)})"
        allowed = _allowed(schema.domain, schema.name, schema.since_version, formal.name)
        if kind not in allowed and f"optional({kind})" not in allowed:
            names = ", ".join(sorted(t for t in allowed if t.startswith("tensor")))
            bad(where, f"operand {k} is {kind}, expected one of {names or ', '.join(allowed)}")
        if not formal.is_homogeneous or "(" in formal.type_str:
            continue
        first = bound.setdefault(formal.type_str, kind)
        if kind != first:
            bad(where, f"operand {k} is {kind}, expected {first} like an operand before it")


@functools.lru_cache(maxsize=8192)
def _allowed(domain: str, name: str, version: int, formal: str) -> frozenset[str]:
    """The types that an operand may have, in that version or the newest."""
    found: set[str] = set()
    newest = onnx.defs.get_schema(name, domain=domain)
    for schema in (onnx.defs.get_schema(name, version, domain), newest):
        found |= {t for i in schema.inputs if i.name == formal for t in i.types}
    return frozenset(found)


# -- function bodies -------------------------------------------------------------------------------


def body_of(schema: Any, node: Any, version: int, inputs: Sequence[Value | None]) -> Any:
    """The function body that ONNX gives for a node's operator in an opset, or None."""
    return _fixed_body(schema, version) or _context_body(schema, node, version, inputs)


def _fixed_body(schema: Any, version: int) -> Any:
    if not schema.has_function:
        return None
    usable = [v for v in schema.function_opset_versions if v <= version]
    data = schema.get_function_with_opset_version(max(usable)) if usable else b""
    return _function(data) if data else schema.function_body


def _context_body(schema: Any, node: Any, version: int, inputs: Sequence[Value | None]) -> Any:
    if not schema.has_context_dependent_function:
        return None
    usable = [v for v in schema.context_dependent_function_opset_versions if v <= version]
    if not usable:
        return None
    types = [type_proto(v).SerializeToString() for v in inputs]
    # The body's own check of the node wants plain attributes only: it is given the node as it is.
    data = schema.get_context_dependent_function_with_opset_version(
        max(usable), node.SerializeToString(), types
    )
    return _function(data) if data else None


def _function(data: bytes) -> Any:
    proto = onnx.FunctionProto()
    proto.ParseFromString(data)
    return proto


def type_proto(value: Value | None) -> Any:
    """The ONNX type of a value, with its sizes as far as they are numbers."""
    proto = onnx.TypeProto()
    if isinstance(value, TensorValue):
        proto.tensor_type.elem_type = value.element
        proto.tensor_type.shape.SetInParent()
        for size in value.shape:
            dim = proto.tensor_type.shape.dim.add()
            if isinstance(size, int):
                dim.dim_value = size
            else:
                dim.dim_param = str(size)
    elif isinstance(value, SequenceValue):
        inner = value.items[0] if value.items else None
        proto.sequence_type.elem_type.CopyFrom(type_proto(inner))
    elif isinstance(value, OptionalValue) and value.item is not None:
        proto.optional_type.elem_type.CopyFrom(type_proto(value.item))
    elif isinstance(value, ForeignValue):
        pass
    return proto


__all__ = ["body_of", "checked_attributes", "resolved", "schema_of", "static_shape", "type_proto"]
