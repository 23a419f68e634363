"""Malformed and hostile ONNX files: builders by name, and what the error must say of the place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from tests.onnx.models import (
    data_of,
    function,
    graph,
    model,
    node,
    one_node,
    small,
    tensor_input,
)

I64 = np.int64
F32 = np.float32
Case = tuple[bytes, str]  # the file, and a part of the message
CASES: dict[str, Case] = {}
COSTLY: dict[str, Case] = {}  # these are valid, and refused as what graphc cannot do


def case(name: str, proto: Any, says: str) -> None:
    """Add a file."""
    assert name not in CASES, name
    CASES[name] = (proto if isinstance(proto, bytes) else data_of(proto), says)


def changed(change: Callable[[Any], Any]) -> Any:
    """The small model after a change."""
    proto = small()
    change(proto)
    return proto


def _bytes() -> None:
    whole = data_of(small())
    case("empty", b"", "it is empty")
    case("text", b"graph main {\n}\n", "no ONNX model")
    case("zip", b"PK\x03\x04" + bytes(60), "no ONNX model")
    case("zeros", bytes(1000), "no ONNX model")
    case("ones", b"\xff" * 1000, "no ONNX model")
    case("json", b'{"irVersion": 10}', "no ONNX model")
    for k in (1, 2, 3, 5, 8, 13, 21, 34, 55, 89):
        case(f"cut to {k} bytes", whole[:k], "no ONNX model")
    for part in (4, 3, 2):
        case(f"cut to 1/{part}", whole[: len(whole) // part], "no ONNX model")
    case("length of 2**60", b"\x08\x0a\x3a" + b"\xff" * 8 + b"\x0f" + whole, "no ONNX model")
    case("groups nested", b"\x08\x0a" + b"\x3b" * 5000, "no ONNX model")
    case("graphs nested by bytes", _nested_bytes(2000), "no ONNX model")
    named = whole.replace(b"product", b"pro\xff\xfect")
    case("name that is no UTF-8", named, "NodeProto: name: b'pro\\xff\\xfect' is no UTF-8 text")


def _nested_bytes(depth: int) -> bytes:
    """A graph in an attribute of a node of a graph …, written by hand."""

    def field(number: int, data: bytes) -> bytes:
        size, text = len(data), b""
        while True:
            text += bytes([size & 0x7F | (0x80 if size > 0x7F else 0)])
            size >>= 7
            if not size:
                return bytes([number << 3 | 2]) + text + data

    data = b""
    for _ in range(depth):
        data = field(1, field(5, field(6, data)))
    return b"\x08\x0a" + field(7, data) + field(8, b"\x10\x15")


def _frame() -> None:
    case("no graph", changed(lambda m: m.ClearField("graph")), "it has no graph")
    case("no opset", changed(lambda m: m.ClearField("opset_import")), "names no opset")
    for version in (0, -1, 10**6):
        proto = changed(lambda m, v=version: setattr(m, "ir_version", v))
        case(f"IR version {version}", proto, "the IR version is")
    for version in (0, -5):
        proto = changed(lambda m, v=version: setattr(m.opset_import[0], "version", v))
        case(f"opset {version}", proto, "is not positive")
    far = changed(lambda m: m.opset_import.add(domain="ai.onnx.ml", version=2**40))
    case("opset of 2**40", far, "of 'ai.onnx.ml' is too large")
    case("opset twice", changed(lambda m: m.opset_import.add(version=21)), "twice")
    case(
        "domain not imported",
        changed(lambda m: setattr(m.graph.node[0], "domain", "elsewhere")),
        "node 'product' (MatMul): its domain 'elsewhere' is not among",
    )


def _graphs() -> None:
    case("circle of one", model([node("Relu", ["a"], ["a"])]), "node 'a' (Relu): it uses 'a'")
    circle = [node("Relu", ["b"], ["a"]), node("Relu", ["a"], ["b"])]
    case("circle of two", model(circle, [], [tensor_input("a", [1])]), "node 'a' (Relu): it uses")
    ring = [node("Relu", [f"v{(k + 1) % 50}"], [f"v{k}"]) for k in range(50)]
    case("circle of fifty", model(ring), "node 'v0' (Relu): it uses 'v1'")
    late = [node("Relu", ["b"], ["y"]), node("Relu", ["x"], ["b"])]
    case("used before it is given", model(late, [tensor_input("x", [1])]), "it uses 'b'")
    case(
        "missing initializer",
        changed(lambda m: m.graph.initializer.pop(0)),
        "node 'product' (MatMul): it uses 'w'",
    )
    case("missing input", changed(lambda m: m.graph.input.pop()), "it uses 'x'")
    case(
        "initializer twice",
        changed(lambda m: m.graph.initializer.add().CopyFrom(m.graph.initializer[0])),
        "the name 'w' is given twice",
    )
    case(
        "initializer without a name",
        changed(lambda m: m.graph.initializer[0].ClearField("name")),
        "it has no name",
    )
    case(
        "input twice",
        changed(lambda m: m.graph.input.add().CopyFrom(m.graph.input[0])),
        "input 'x': two inputs have this name",
    )
    case(
        "input without a name",
        changed(lambda m: m.graph.input[0].ClearField("name")),
        "it has no name",
    )
    case(
        "input without a type",
        changed(lambda m: m.graph.input[0].ClearField("type")),
        "input 'x': it has no type",
    )
    for element in (0, 99, -3):
        proto = changed(
            lambda m, e=element: setattr(m.graph.input[0].type.tensor_type, "elem_type", e)
        )
        case(f"input of type {element}", proto, "input 'x': the element type")
    case("two nodes give a name", _twice("h"), "the name 'h' is given twice")
    case("a node gives an input's name", _twice("x"), "the name 'x' is given twice")
    case("a node gives an initializer's name", _twice("w"), "the name 'w' is given twice")
    case(
        "missing output",
        changed(lambda m: setattr(m.graph.output[0], "name", "z")),
        "output 'z': no node gives it",
    )
    case("no output's node", model([], [], [tensor_input("y", [1])]), "output 'y': no node gives")


def _twice(name: str) -> Any:
    proto = small()
    proto.graph.node.append(node("Relu", ["a"], [name]))
    return proto


def _dims() -> None:
    for size in (-1, -(2**63), 2**62 + 1, 2**63 - 1):
        proto = model([], [tensor_input("x", [2, size])])
        case(f"input of size {size}", proto, "input 'x': dim 1 is")
    huge = model([], [tensor_input("x", [2**40, 2**40])])
    case("input of huge sizes", huge, "input 'x': its dims are too large")
    case("input of 65 dims", model([], [tensor_input("x", [1] * 65)]), "input 'x': 65 dims")
    many = [tensor_input(f"x{k}", [f"n{k}_{j}" for j in range(60)]) for k in range(70)]
    case("4200 symbols", model([], many), "symbolic dims (limit symbols)")
    for name, dims, says in (
        ("a negative size", [-3, 2], "dim 0 is -3"),
        ("huge sizes", [2**40, 2**40], "are too large"),
        ("one huge size and none", [0, 2**63 - 1], "are too large"),
        ("a size of 2**62 too few bytes", [2**62 // 4], "raw_data has 24 bytes"),
        ("another size", [3, 3], "raw_data has 24 bytes, expected 36"),
        ("65 dims", [1] * 65, "65 dims, expected at most 64"),
    ):
        case(f"initializer with {name}", _initializer(lambda t, d=dims: _set_dims(t, d)), says)


def _set_dims(tensor: Any, dims: Any) -> None:
    del tensor.dims[:]
    tensor.dims.extend(dims)


def _initializer(change: Callable[[Any], Any]) -> Any:
    """The small model after a change of the initializer w."""
    return changed(lambda m: change(m.graph.initializer[0]))


def _set_field(tensor: Any, element: int, field: str, values: Any) -> None:
    tensor.ClearField("raw_data")
    tensor.data_type = element
    _set_dims(tensor, [len(values)])
    getattr(tensor, field).extend(values)


def _data() -> None:
    for name, change, says in (
        ("cut raw data", lambda t: setattr(t, "raw_data", t.raw_data[:-1]), "has 23 bytes"),
        ("more raw data", lambda t: setattr(t, "raw_data", t.raw_data + b"\0"), "has 25 bytes"),
        ("no data", lambda t: t.ClearField("raw_data"), "float_data has 0 elements, expected 6"),
        ("data twice", lambda t: t.float_data.extend([1.0]), "both in raw_data and in float_data"),
        ("unknown type", lambda t: setattr(t, "data_type", 77), "the element type number 77"),
        ("no type", lambda t: setattr(t, "data_type", 0), "the element type number 0"),
        ("type lie", lambda t: setattr(t, "data_type", 11), "expected 48: 6 elements of double"),
        ("bool lie", lambda t: (setattr(t, "data_type", 9), _set_dims(t, [24])), "neither 0 nor 1"),
        ("wrong field", lambda t: _set_field(t, 1, "int64_data", [1, 2]), "in int64_data"),
        ("int8 too large", lambda t: _set_field(t, 3, "int32_data", [200]), "does not fit int8"),
        ("uint8 negative", lambda t: _set_field(t, 2, "int32_data", [-1]), "does not fit uint8"),
        ("bool of 2", lambda t: _set_field(t, 9, "int32_data", [2]), "does not fit bool"),
        ("uint32 too large", lambda t: _set_field(t, 12, "uint64_data", [2**40]), "fit uint32"),
        ("float16 bits", lambda t: _set_field(t, 10, "int32_data", [70000]), "is no float16"),
        ("bfloat16 bits", lambda t: _set_field(t, 16, "int32_data", [-1]), "is no bfloat16"),
        ("int4 raw", lambda t: setattr(t, "data_type", 22), "has 24 bytes, expected 3: 6 elements"),
        ("float8 field", lambda t: _set_field(t, 17, "int32_data", [300]), "is no byte"),
        ("2 bits", lambda t: _set_field(t, 26, "int32_data", [1, 1, 1, 1]), "expected 1: 4 elem"),
        ("segment", lambda t: setattr(t.segment, "begin", 1), "tensors in segments"),
    ):
        case(f"initializer: {name}", _initializer(change), says)
    _sparse()


def _sparse() -> None:
    def sparse(dims: Any, values: Any, indices: Any) -> Any:
        proto = small()
        del proto.graph.initializer[0]
        found = proto.graph.sparse_initializer.add()
        found.values.CopyFrom(helper.make_tensor("w", TensorProto.FLOAT, [len(values)], values))
        flat = np.asarray(indices, I64)
        found.indices.CopyFrom(
            helper.make_tensor("i", TensorProto.INT64, flat.shape, flat.ravel().tolist())
        )
        found.dims.extend(dims)
        return proto

    place = "sparse initializer 'w'"
    case("sparse: index outside", sparse([3, 2], [1.0], [6]), f"{place}: an index is outside")
    case("sparse: negative index", sparse([3, 2], [1.0], [-1]), f"{place}: an index is outside")
    case("sparse: rows outside", sparse([3, 2], [1.0], [[0, 2]]), "an index is outside")
    case("sparse: too few indices", sparse([3, 2], [1.0, 2.0], [0]), "do not fit 2 values")
    case("sparse: huge", sparse([2**31, 2**30], [1.0], [0]), "larger than allowed")
    case("sparse: negative dims", sparse([-3, 2], [1.0], [0]), f"{place}: dim 0 is -3")


def _nodes() -> None:
    x = (2, 3)
    place = "node 'n'"
    for name, proto, says in (
        ("too few operands", one_node("Add", {"x": x}), "it has 1 operands, expected 2"),
        ("too many operands", one_node("Relu", {"x": x, "z": x}), "it has 2 operands, expected 1"),
        ("too many outputs", one_node("Relu", {"x": x}, outputs=2), "it has 2 outputs"),
        ("unknown attribute", one_node("Relu", {"x": x}, slope=1.0), "'slope' is unknown to Relu"),
        ("float for an int", one_node("Concat", {"x": x}, axis=1.5), "is a float, expected an int"),
        ("ints for an int", one_node("Concat", {"x": x}, axis=[1]), "is ints, expected an int"),
        ("text for ints", one_node("Transpose", {"x": x}, perm="10"), "is a string, expected ints"),
        ("missing attribute", one_node("Concat", {"x": x}), "the attribute 'axis' is missing"),
        ("missing value", one_node("Constant", {}), "it has no value"),
    ):
        case(f"node: {name}", proto, says)
    twice = one_node("Concat", {"x": x}, axis=0)
    twice.graph.node[0].attribute.add().CopyFrom(twice.graph.node[0].attribute[0])
    case("node: attribute twice", twice, f"{place} (Concat): the attribute 'axis' is given twice")
    text = one_node("Gelu", {"x": x}, approximate="none")
    text.graph.node[0].attribute[0].s = b"\xff\xfe"
    case("node: attribute that is no UTF-8", text, "no UTF-8 text at byte 0")
    value = one_node("Constant", {}, value=helper.make_tensor("v", 1, [2], [1.0, 2.0]))
    value.graph.node[0].attribute[0].t.dims[0] = 5
    case("node: constant of wrong size", value, "float_data has 2 elements, expected 5")


def _operands() -> None:
    x, one = (2, 3), np.array([1], I64)

    def ints(*values: int) -> Any:
        return np.array(values, I64)

    table: list[tuple[str, Any, str]] = [
        ("shapes", one_node("Add", {"x": x, "z": (4, 5)}), "do not broadcast"),
        ("dtypes", one_node("Add", {"x": x, "z": one}), "operand 1 is tensor(int64), expected"),
        ("perm twice", one_node("Transpose", {"x": x}, perm=[0, 0]), "permute_dims"),
        ("perm too long", one_node("Transpose", {"x": x}, perm=[0, 1, 2]), "permute_dims"),
        ("concat axis", one_node("Concat", {"x": x, "z": x}, axis=2), "axis 2"),
        ("concat sizes", one_node("Concat", {"x": x, "z": (2, 4)}, axis=0), "concat"),
        ("reshape", one_node("Reshape", {"x": x, "s": ints(4, 2)}), "reshape"),
        ("reshape two -1", one_node("Reshape", {"x": x, "s": ints(-1, -1)}), "-1"),
        ("reshape -2", one_node("Reshape", {"x": x, "s": ints(-2, 3)}), "-2"),
        (
            "reshape 0",
            one_node("Reshape", {"x": x, "s": ints(2, 3, 0)}),
            "size 2 of the shape is 0",
        ),
        ("reshape huge", one_node("Reshape", {"x": x, "s": ints(2**62, 2**62)}), "reshape"),
        ("squeeze", one_node("Squeeze", {"x": x, "a": ints(0)}), "has size 2, expected 1"),
        ("squeeze axis", one_node("Squeeze", {"x": x, "a": ints(5)}), "axis 5 is out of bounds"),
        ("unsqueeze", one_node("Unsqueeze", {"x": x, "a": ints(1, 1)}), "given twice"),
        ("unsqueeze axis", one_node("Unsqueeze", {"x": x, "a": ints(-9)}), "axis -9"),
        ("gather axis", one_node("Gather", {"x": x, "i": ints(0)}, axis=2), "axis 2"),
        ("gather index", one_node("Gather", {"x": x, "i": ints(7)}, axis=0), "7"),
        (
            "gather floats",
            one_node("Gather", {"x": x, "i": np.ones(1, F32)}),
            "expected one of tensor(int",
        ),
        ("slice step", _slice(x, [0], [1], [0], [0]), "a step is 0"),
        ("slice axis", _slice(x, [0], [1], [7], [1]), "axis 7 is out of bounds"),
        ("slice lengths", _slice(x, [0, 0], [1], [0], [1]), "2 starts, 1 ends"),
        ("split", one_node("Split", {"x": x, "s": ints(1, 9)}, outputs=2), "10 elements together"),
        ("split negative", one_node("Split", {"x": x, "s": ints(-1, 3)}, outputs=2), "negative"),
        ("expand", one_node("Expand", {"x": x, "s": ints(4, 4)}), "do not broadcast"),
        ("expand negative", one_node("Expand", {"x": x, "s": ints(-2, 2, 3)}), "-2"),
        ("tile", one_node("Tile", {"x": x, "r": ints(2)}), "1 repeats for 2 dims"),
        ("tile negative", one_node("Tile", {"x": x, "r": ints(2, -1)}), "-1"),
    ]
    for name, proto, says in table:
        case(f"operands: {name}", proto, says)


def _more_operands() -> None:
    x, one = (2, 3), np.array([1], I64)

    def ints(*values: int) -> Any:
        return np.array(values, I64)

    table: list[tuple[str, Any, str]] = [
        ("pad", one_node("Pad", {"x": x, "p": ints(1, 1)}), "2 pads for 2 dims"),
        ("pad mode", one_node("Pad", {"x": x, "p": ints(1, 1, 1, 1)}, mode="odd"), "'odd'"),
        ("pad reflect", one_node("Pad", {"x": x, "p": ints(9, 0, 0, 0)}, mode="reflect"), "pad"),
        ("constant of shape", one_node("ConstantOfShape", {"s": ints(2, -1)}), "-1"),
        ("range step", one_node("Range", {"a": I64(0), "b": I64(5), "c": I64(0)}), "step is 0"),
        ("one hot axis", _one_hot(9), "axis 9 is out of bounds"),
        ("top k", one_node("TopK", {"x": x, "k": ints(9)}, outputs=2), "top_k"),
        ("argmax axis", one_node("ArgMax", {"x": x}, axis=4), "axis 4"),
        ("sum axis", one_node("ReduceSum", {"x": x, "a": ints(3)}), "axis 3"),
        ("sum axis twice", one_node("ReduceSum", {"x": x, "a": ints(1, 1)}), "axis"),
        ("running sum", one_node("CumSum", {"x": x, "a": I64(3)}), "axis 3 is out of bounds"),
        ("product", one_node("MatMul", {"x": x, "z": x}), "matmul"),
        ("product of scalars", one_node("MatMul", {"x": (), "z": ()}), "matmul"),
        ("gemm", one_node("Gemm", {"a": x, "b": x}), "matmul"),
        ("einsum", one_node("Einsum", {"a": x}, equation="ijk->i"), "einsum"),
        ("einsum text", one_node("Einsum", {"a": x}, equation="->->"), "einsum"),
        (
            "where",
            one_node("Where", {"c": np.ones(2, bool), "x": x, "z": one}),
            "like an operand before",
        ),
        ("shift", one_node("BitShift", {"x": one, "z": one}, direction="UP"), "'UP'"),
        ("bits", one_node("BitCast", {"x": x}, to=7, version=26), "the widths differ"),
        ("diagonal", one_node("EyeLike", {"x": (2,)}), "1 dims, expected 2"),
        ("triangle", one_node("Trilu", {"x": (2,)}), "at least 2 dims"),
        ("flatten", one_node("Flatten", {"x": x}, axis=5), "axis 5 is out of bounds"),
        (
            "gather vectors",
            one_node("GatherND", {"x": x, "i": ints(0, 0, 0)}),
            "index vectors of 3",
        ),
        ("batch axes", one_node("GatherND", {"x": x, "i": ints(0)}, batch_dims=4), "4 axes"),
        ("scatter", _scatter("odd"), "the reduction 'odd' is unknown"),
        ("scatter vectors", _scatter_nd(), "at[].set"),
        ("not of floats", one_node("Not", {"x": x}), "expected one of tensor(bool)"),
        ("isnan of ints", one_node("IsNaN", {"x": one}), "operand 0 is tensor(int64), expected"),
    ]
    for name, proto, says in table:
        case(f"operands: {name}", proto, says)


def _slice(x: Any, *lists: Any) -> Any:
    names = ("starts", "ends", "axes", "steps")
    return one_node("Slice", {"x": x, **{n: np.array(v, I64) for n, v in zip(names, lists)}})


def _one_hot(axis: int) -> Any:
    operands = {"i": np.array([1], I64), "d": np.array(3, I64), "v": np.array([0, 1], F32)}
    return one_node("OneHot", operands, axis=axis)


def _scatter(reduction: str) -> Any:
    operands = {"x": (2, 3), "i": np.zeros((1, 1), I64), "u": np.zeros((1, 1), F32)}
    return one_node("ScatterElements", operands, reduction=reduction)


def _scatter_nd() -> Any:
    operands = {"x": (2, 3), "i": np.zeros((1, 1), I64), "u": np.zeros((1, 7), F32)}
    return one_node("ScatterND", operands)


def _types() -> None:
    case(
        "output of another type",
        changed(lambda m: setattr(m.graph.output[0].type.tensor_type, "elem_type", 7)),
        "output 'y': it is declared as int64, and is float",
    )
    case(
        "output of another rank",
        changed(lambda m: m.graph.output[0].type.tensor_type.shape.dim.add()),
        "output 'y': it is declared with 3 dims, and has 2",
    )


def _control() -> None:
    yes = node("Constant", [], ["c"], value=helper.make_tensor("v", 9, [], [True]))
    branch = graph([], [], ["missing"], "then")
    case("branch without its output", _if(yes, branch), "no node gives its output 'missing'")
    more = graph([node("Identity", ["x"], ["z"])], ["p"], ["z"], "then")
    case("branch with inputs", _if(yes, more), "it has 1 inputs, expected 0")
    none = graph([], [], [], "then")
    case("branch without outputs", _if(yes, none), "it names 1 outputs, and has 0")
    case("graphs nested", _nested(30), "to a depth above")
    nothing = graph([], ["i", "c"], [], "body")
    case("loop without a condition", _loop(nothing, 3), "a body of 0 outputs for 0 carries")
    few = graph([node("Identity", ["i"], ["z"])], ["i"], ["z"], "body")
    case("loop of few inputs", _loop(few, 3), "it has 1 inputs, expected 2")
    case("scan without sequences", _scan(0), "num_scan_inputs is 0")
    case("scan of more than there is", _scan(5), "num_scan_inputs is 5")
    case("sequence position", _sequence_at(4), "position 4 is outside a sequence of 1")
    case("sequence of sequences", _sequence_of_sequences(), "a sequence holds tensors")


def _if(condition: Any, branch: Any) -> Any:
    chosen = node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    return model([condition, chosen], [tensor_input("x", [1])], [tensor_input("y", [1])])


def _nested(depth: int) -> Any:
    """If in If in If …: as deep as a file may be."""
    inner = graph([node("Identity", ["x"], ["z"])], [], ["z"], "g")
    for k in range(depth):
        chosen = node("If", ["c"], [f"y{k}"], then_branch=inner, else_branch=inner)
        inner = graph([chosen], [], [f"y{k}"], "g")
        if inner.ByteSize() > 1 << 20:  # each level holds the one inside twice
            break
    yes = node("Constant", [], ["c"], value=helper.make_tensor("v", 9, [], [True]))
    calls = [
        function(f"f{k}", ["x"], ["y"], [helper.make_node(f"f{k + 1}", ["x"], ["y"], domain="own")])
        for k in range(60)
    ]
    calls.append(function("f60", ["x"], ["y"], [node("Identity", ["x"], ["y"])]))
    first = helper.make_node("f0", ["x"], ["y"], name="first", domain="own")
    proto = model(
        [yes, first],
        [tensor_input("x", [1])],
        [tensor_input("y", [1])],
        functions=calls,
        opsets={"": 21, "own": 1},
    )
    proto.graph.node[0].CopyFrom(yes)
    return proto


def _loop(body: Any, turns: int) -> Any:
    count = node("Constant", [], ["m"], value=helper.make_tensor("v", 7, [], [turns]))
    return model([count, node("Loop", ["m", ""], ["y"], body=body)], [], [tensor_input("y", [1])])


def _scan(count: int) -> Any:
    body = graph([node("Identity", ["a"], ["b"])], ["a"], ["b"], "body")
    scan = node("Scan", ["x"], ["y"], body=body, num_scan_inputs=count)
    return model([scan], [tensor_input("x", [2, 3])], [tensor_input("y", [2, 3])])


def _sequence_at(place: int) -> Any:
    nodes = [
        node("SequenceConstruct", ["x"], ["s"]),
        node("Constant", [], ["p"], value=helper.make_tensor("v", 7, [], [place])),
        node("SequenceAt", ["s", "p"], ["y"]),
    ]
    return model(nodes, [tensor_input("x", [1])], [tensor_input("y", [1])])


def _sequence_of_sequences() -> Any:
    nodes = [node("SequenceConstruct", ["x", "x"], ["s0"])]
    nodes += [node("SequenceConstruct", [f"s{k}", f"s{k}"], [f"s{k + 1}"]) for k in range(60)]
    return model(nodes, [tensor_input("x", [1])], [helper.make_empty_tensor_value_info("s60")])


def _functions() -> None:
    def using(functions: Any, called: str = "f0") -> Any:
        call = helper.make_node(called, ["x"], ["y"], name="call", domain="own")
        return model(
            [call],
            [tensor_input("x", [1])],
            [tensor_input("y", [1])],
            functions=functions,
            opsets={"": 21, "own": 1},
        )

    def calling(name: str, *others: str) -> Any:
        names = ["x", *[f"v{k}" for k in range(len(others))]]
        nodes = [
            helper.make_node(other, [names[k]], [names[k + 1]], domain="own")
            for k, other in enumerate(others)
        ]
        return function(name, ["x"], [names[-1]], nodes)

    case("function calls itself", using([calling("f0", "f0")]), "function 'f0': it calls itself")
    pair = [calling("f0", "f1"), calling("f1", "f0")]
    case("functions call each other", using(pair), "it calls itself, directly or by others")
    twice = [calling("f0"), calling("f0")]
    case("function twice", using(twice), "function 'f0': it is defined twice")
    double = [calling(f"f{k}", *[f"f{k + 1}"] * 100) for k in range(8)] + [calling("f8")]
    case("functions that multiply", using(double), "make more than")
    chain = [calling(f"f{k}", f"f{k + 1}") for k in range(500)] + [calling("f500")]
    case("functions nested", using(chain), "to a depth above")
    missing = function("f0", ["x"], ["z"], [node("Relu", ["x"], ["y"])])
    case("function without its output", using([missing]), "gives its output 'z'")
    few = function("f0", [], ["z"], [node("Constant", [], ["z"], value_int=1)])
    case("function of fewer operands", using([few]), "1 operands, expected at most 0")
    same = function("f0", ["x", "x"], ["x"], [])
    case("function with an input twice", using([same]), "two inputs have the same name")


def _allocations() -> None:
    """Small files that ask for much."""
    one = {"n": np.array(1, I64)}
    parts = [node("SplitToSequence", ["z", "n"], ["s"])]
    wide = [tensor_input("z", [2**40])]
    case("2**40 parts", model(parts, wide, [], one), "a split into 1099511627776 parts")


def _pictures() -> None:
    """Encoded pictures in the file."""
    encoded = {
        "no picture": b"PK\x03\x04",
        "picture cut": b"P6 4 4 255\n" + bytes(47),
        "picture of 2**60 pixels": b"P5 1073741824 1073741824 255\n",
        "picture too large": b"P5 8193 8192 255\n",
    }
    for name, data in encoded.items():
        picture = np.frombuffer(data, np.uint8)
        case(name, one_node("ImageDecoder", {"x": picture}), "node 'n' (ImageDecoder): ")
    shapeless = one_node("ImageDecoder", {"x": np.array(80, np.uint8)})
    case("picture of no dims", shapeless, "the encoded picture is uint8[], expected uint8[n]")


def _costly() -> None:
    """Valid files that ask for much: each is refused by name, or costs little."""
    shape = np.array([2**31, 2**31], I64)
    huge = [
        node("ConstantOfShape", ["s"], ["c"]),
        node("Cast", ["c"], ["i"], to=7),
        node("Reshape", ["x", "i"], ["y"]),
    ]
    inputs, outputs = [tensor_input("x", [6])], [helper.make_empty_tensor_value_info("y")]
    COSTLY["shape of 2**62 elements"] = (
        data_of(model(huge, inputs, outputs, {"s": shape})),
        "node 'y' (Reshape): the shape must be known",
    )
    body = graph(
        [node("Identity", ["cond"], ["again"]), node("Concat", ["v", "v"], ["w"], axis=0)],
        ["i", "cond", "v"],
        ["again", "w"],
        "body",
    )
    count = node("Constant", [], ["m"], value=helper.make_tensor("v", 7, [], [2**62]))
    loop = [count, node("Loop", ["m", "", "x"], ["y"], body=body)]
    COSTLY["loop of 2**62 turns"] = (data_of(model(loop, inputs, outputs)), "node 'y' (Loop)")
    values = {"a": np.array(0, I64), "b": np.array(2**62, I64), "c": np.array(1, I64)}
    steps = [node("Range", ["a", "b", "c"], ["r"]), node("Reshape", ["x", "r"], ["y"])]
    case("range of 2**62", model(steps, inputs, outputs, values), "elements (limit rank)")


for _add in (
    _bytes,
    _frame,
    _graphs,
    _dims,
    _data,
    _nodes,
    _operands,
    _more_operands,
    _types,
    _control,
    _functions,
    _allocations,
    _pictures,
    _costly,
):
    _add()
