"""The loops of factorizations in the interpreter, which finds accesses out of bounds, memory read
before it is written, and lanes or iterations that are not independent.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from graphc.base.dtypes import Array, float64
from graphc.compiler import Compilation
from graphc.ir.graph import Graph
from graphc.ir.node import Node, Tensor
from graphc.ir.opdef import REGISTRY
from graphc.loops.interpret import interpret
from graphc.ops.families import Opaque
from graphc.runtime.cpu_device import CpuDevice
from graphc.runtime.executable import CompileOptions
from tests.conformance.matrices import is_factorization
from tests.ops.cases import Case, cases

LOOPS = [op for op in REGISTRY if is_factorization(op.name) and isinstance(op.form, Opaque)]
_LARGEST = 5


def interpreted(inputs: tuple[Tensor, ...], node: Node, case: Case) -> tuple[int, Array]:
    """The site of the check that failed, 0 for none, and the result of the node's one kernel."""
    graph = Graph(list(inputs), {"y": node})  # type: ignore[dict-item]  # ops of one result
    target = CpuDevice(1).target
    compilation = Compilation(graph, CompileOptions(numerics="exact"), target)
    (lowered,) = compilation.lowered.all_kernels
    places = {id(x): a for x, a in zip(inputs, case.arrays, strict=True)}
    assert case.op.reference is not None
    wanted = case.op.reference(*case.arrays, **case.sample.attrs)
    result = np.zeros(wanted.shape, case.dtype.numpy)
    arrays: Mapping[str, Array] = {
        p.name: result if p in lowered.kernel.outputs else np.array(places[id(arg)], order="C")
        for p, arg in zip(lowered.kernel.params, lowered.args, strict=True)
    }
    sizes = {
        str(d): n
        for x, a in zip(inputs, case.arrays, strict=True)
        for d, n in zip(x.shape, a.shape, strict=True)
        if not isinstance(d, int)
    }
    return interpret(lowered.kernel, arrays, sizes), result


@pytest.mark.parametrize("op", LOOPS, ids=lambda op: op.name)
def test_interpreted(op: object) -> None:
    found = [c for c in cases(op, float64) if max(c.arrays[0].shape[-2:]) <= _LARGEST]
    done = set()
    for case in found:
        key = (*(a.shape for a in case.arrays), str(case.sample.attrs))
        if key in done:
            continue
        done.add(key)
        symbolic = case.symbolic()
        static = case.placeholders()
        for inputs, node in ((static, case.node(static)), *([symbolic] if symbolic else [])):
            site, result = interpreted(inputs, node, case)
            wanted = case.op.reference(*case.arrays, **case.sample.attrs)
            assert site == 0, case
            np.testing.assert_allclose(result, wanted, atol=1e-12, err_msg=str(case))
