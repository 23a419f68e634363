"""ONNX's own backend tests, as the `onnx` package ships them, and what graphc leaves out of them.

The package's runner makes one function per test and device; those of the CPU are taken. Everything
in EXCLUDED has its reason; a test holds that each such model is refused by an error, or is there
for another reason that is tested as well.
"""

from __future__ import annotations

import functools
import re
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from onnx.backend.test import BackendTest
from onnx.backend.test.loader import load_model_tests

from graphc.onnx.backend import Backend

GROUPS = {
    "node": "NodeModel",
    "simple": "SimpleModel",
    "light": "RealModel",
    "PyTorch-converted": "PyTorchConvertedModel",
    "PyTorch-operator": "PyTorchOperatorModel",
}

# Refused by an error that names the operator: pattern of the test's name -> reason.
REFUSED = {
    r"^test_(strnorm|string_|regex_|ai_onnx_ml_label_encoder_|cast_.*STRING|"
    r"tfidf.*string|equal_string|identity_string)": "graphc has no string tensors",
    r"^test_(adagrad|adam|momentum|nesterov|gradient)": "training operators are not imported",
}

# Not refused; what they compare cannot be compared so.
NOT_COMPARABLE = {
    r"^test_bernoulli": "the expected values are NumPy's random numbers; held by statistics in "
    "test_operators",
    r"^test_loop16_seq_none": "the runner cannot compare a sequence that holds a 0-d tensor; "
    "compared in test_operators",
}
EXCLUDED: Mapping[str, str] = {**REFUSED, **NOT_COMPARABLE}

# Kinds of node tests that the first figure of the report leaves out, by the element types and the
# operators of their models.
OTHER_TYPES = {8, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26}


@functools.cache
def runner(backend: Any = Backend) -> Any:
    """The package's runner over a backend; making its node models takes some seconds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the reference values divide by zero on purpose
        return BackendTest(backend, __name__)


def cases_of(group: str, backend: Any = Backend) -> dict[str, Callable[[], None]]:
    """The tests of a group by name, without the device."""
    items = runner(backend)._test_items[GROUPS[group]]
    return {
        name.removesuffix("_cpu"): functools.partial(item.func, None)
        for name, item in sorted(items.items())
        if name.endswith("_cpu")
    }


def reason_of(name: str) -> str | None:
    """Why a test is left out; None for those that must pass."""
    for pattern, reason in EXCLUDED.items():
        if re.search(pattern, name):
            return reason
    return None


@functools.cache
def node_models() -> dict[str, Any]:
    """The models of the node tests by name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {case.name: case.model for case in load_model_tests(kind="node")}


def is_plain(model: Any) -> bool:
    """Whether a model has tensors of the usual types only, and no training operators."""
    domains = {o.domain for o in model.opset_import}
    if "ai.onnx.preview.training" in domains:
        return False
    graph = model.graph
    for info in (*graph.input, *graph.output, *graph.value_info):
        if not info.type.HasField("tensor_type"):
            return False
        if info.type.tensor_type.elem_type in OTHER_TYPES:
            return False
    return not any(_has_other_types(node) for node in graph.node)


def _has_other_types(node: Any) -> bool:
    sequence = node.op_type.startswith(("Sequence", "Optional")) or "Sequence" in node.op_type
    if sequence and node.op_type != "ReverseSequence":
        return True
    for attribute in node.attribute:
        if attribute.name in ("to", "dtype", "output_dtype") and attribute.i in OTHER_TYPES:
            return True
        if attribute.HasField("t") and attribute.t.data_type in OTHER_TYPES:
            return True
        if attribute.HasField("g") and any(map(_has_other_types, attribute.g.node)):
            return True
    return False
