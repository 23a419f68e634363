"""The loops of a compiled program, by the interpreter of the loop language."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

import graphc
from graphc.base.dims import evaluate
from graphc.ir.node import Tensor
from graphc.loops.interpret import interpret
from graphc.ops.families import Constant
from tests.conformance.running import Compiled

Array = Any


def interpreted(run: Compiled, graph: graphc.Graph, arrays: Mapping[str, Array]) -> Array:
    """The one output of a program whose sizes are known, computed kernel after kernel."""
    memory = {id(tensor): arrays[name] for name, tensor in graph.inputs}
    out: dict[str, Array] = {}
    for lowered in run.compilation.lowered.kernels:
        out = {}
        for buffer, stored in zip(lowered.kernel.params, lowered.args, strict=True):
            shape = tuple(evaluate(d, {}) for d in buffer.shape)
            if id(stored) not in memory:
                memory[id(stored)] = np.zeros(shape, buffer.dtype.numpy)
                if isinstance(stored, Tensor) and isinstance(stored.op.form, Constant):
                    memory[id(stored)] = stored.attr("value").values
            out[buffer.name] = memory[id(stored)].reshape(shape)
        assert interpret(lowered.kernel, out) == 0
    (result,) = [out[b.name] for b in lowered.kernel.outputs]
    return result
