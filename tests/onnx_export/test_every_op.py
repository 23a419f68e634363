"""Every op of the registry with its author's samples: exported and the same, or refused by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphc.base.dtypes import Array, DType, dtype_of
from graphc.base.errors import UnsupportedError
from graphc.ir.graph import Graph
from graphc.ir.node import Tensor
from graphc.ir.opdef import OpDef
from graphc.onnx.exporting import model as exporter
from graphc.onnx.exporting.table import EXPORTERS, REFUSED
from graphc.ops.families import Composite
from tests.onnx_export.running import assert_close, model_of, run_reference
from tests.ops.cases import Case, cases, ops_with_samples

# (op, dtype): the one dtype that ONNX's operator lacks, and no wider one holds.
REFUSED_DTYPES = {("pow", "uint64")}
QUICK = ("bool", "uint8", "int64", "float32")
REST = ("int8", "int16", "int32", "uint16", "uint32", "uint64", "float16", "bfloat16", "float64")
# Relative, absolute.
TOLERANCE = {
    "float16": (2e-3, 1e-5),
    "bfloat16": (2e-2, 1e-5),
    "float32": (2e-5, 1e-6),
    "float64": (1e-12, 1e-14),
}
# ONNX's reference evaluator: LogSoftmax as log(softmax) underflows; Erf in float64 has 8 digits.
LOG_UNDERFLOWS = {"log_softmax", "softmax_cross_entropy"}
ROUGH = {("erf", "float64"), ("erfc", "float64")}


def _runs(case: Case) -> bool:
    """Whether the reference evaluator can run a case: its Scan goes forward along axis 0 only,
    one turn or more.
    """
    attrs = case.sample.attrs
    if case.op.name in ("cumulative_prod", "cumulative_max", "cumulative_min", "linear_recurrence"):
        return not attrs["reverse"] and attrs["axis"] == 0 and bool(case.arrays[0].size)
    if case.op.name in LOG_UNDERFLOWS:
        x = case.arrays[0].astype(np.float64)
        return bool(x.size == 0 or np.ptp(x[np.isfinite(x)]) < 80)
    return True


def _check(op: OpDef, dtype: DType) -> None:
    chosen = [case for case in cases(op, dtype) if _runs(case)]
    inputs: list[Tensor] = []
    outputs: dict[str, Tensor] = {}
    feeds: dict[str, Array] = {}
    for case in chosen:
        placed = case.placeholders(f"c{case.number}_")
        inputs += placed
        feeds |= {str(t.name): a for t, a in zip(placed, case.arrays, strict=True)}
        node = case.node(placed)
        assert isinstance(node, Tensor)
        outputs[f"o{case.number}"] = node
    graph = Graph(inputs, outputs)
    if op.name == "bitcast":  # its operator came later
        with pytest.raises(UnsupportedError, match="bitcast: ONNX has no BitCast at opset 21"):
            model_of(graph)
        return _compare(op, dtype, graph, model_of(graph, 26), feeds)
    # What has an exporter must be exported; what is made of other ops, where those can be; the rest
    # is refused by name.
    known = op.name in EXPORTERS or isinstance(op.form, Composite)
    if op.name in REFUSED or not known or (op.name, dtype.name) in REFUSED_DTYPES:
        with pytest.raises(UnsupportedError, match=f"export to ONNX: {op.name}: .*ONNX"):
            model_of(graph)
        return
    try:
        model = model_of(graph)
    except UnsupportedError as error:
        inside = str(error).split(": ")[1]
        assert op.name not in EXPORTERS and inside in REFUSED, error
        return
    _compare(op, dtype, graph, model, feeds)


def _compare(op: OpDef, dtype: DType, graph: Graph, model: Any, feeds: dict[str, Array]) -> None:
    found = run_reference(graph, model, feeds)
    expected = graph.evaluate(feeds)
    for name, value in expected.items():
        relative, absolute = TOLERANCE.get(value.dtype.name, (0.0, 0.0))
        if dtype.name in ("float16", "bfloat16"):
            relative, absolute = TOLERANCE[dtype.name]
        if (op.name, dtype.name) in ROUGH:
            relative = 1e-6
        assert_close(found[name], value, f"{op.name} {dtype} {name}", relative, absolute)


@pytest.mark.parametrize("op", ops_with_samples(), ids=lambda op: op.name)
def test_op(op: OpDef) -> None:
    """In four dtypes that stand for the others."""
    tried = [d for name in QUICK if (d := dtype_of(name)) in op.dtypes]
    for dtype in tried or op.dtypes[:1]:
        _check(op, dtype)


@pytest.mark.slow
@pytest.mark.parametrize("op", ops_with_samples(), ids=lambda op: op.name)
def test_op_in_all_dtypes(op: OpDef) -> None:
    """In the other dtypes."""
    for name in REST:
        if dtype_of(name) in op.dtypes:
            _check(op, dtype_of(name))


def test_no_op_is_both_exported_and_refused() -> None:
    assert exporter.OLDEST >= 18 and EXPORTERS  # the table is filled when the model is loaded
    assert not set(EXPORTERS) & set(REFUSED)
