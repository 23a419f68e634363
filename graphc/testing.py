"""Testing models (floor 8): gradients against finite differences, random inputs for a graph.

Everything is computed by the reference meaning in the dtype of the tensors: declare them float64
for a sharp check.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from graphc.autodiff.reverse import cotangents
from graphc.base.dims import Dim, evaluate
from graphc.base.dtypes import Array, DType, bfloat16, float64, round_bfloat16
from graphc.base.errors import GraphcError, GraphError, message
from graphc.ir.graph import Graph
from graphc.ir.node import Tensor
from graphc.ops.promotion import as_tensor
from graphc.ops.state import placeholder

Function = Callable[..., Any]


class GradientError(GraphcError, AssertionError):
    """A gradient differs from finite differences; the message names input, position and both
    values.
    """


def random_array(
    shape: Sequence[int], dtype: DType, *, seed: int = 0, low: float = -2.0, high: float = 2.0
) -> Array:
    """An array of a dtype with values in [low, high), in reference form; whole numbers for
    integers, coin flips for bool.
    """
    rng = np.random.default_rng((seed, *shape))
    if dtype.is_bool:
        return rng.random(tuple(shape)) < 0.5
    if dtype.is_integer:
        first = max(int(low), 0 if dtype.kind == "u" else -128)
        return rng.integers(first, max(int(high), first + 1), tuple(shape)).astype(dtype.numpy)
    values = np.asarray(rng.uniform(low, high, tuple(shape))).astype(dtype.numpy)
    return round_bfloat16(values) if dtype is bfloat16 else values


def random_inputs(
    graph: Graph,
    *,
    seed: int = 0,
    sizes: Mapping[str, int] | None = None,
    low: float = -2.0,
    high: float = 2.0,
) -> dict[str, Array]:
    """An array for every input of a graph, by name. sizes: of symbolic dims; the others get the
    smallest of at least 3 that they allow.
    """
    chosen = {s.name: _smallest(s.min, s.max, s.multiple_of) for s in graph.symbols} | dict(
        sizes or {}
    )
    return {
        name: random_array(
            [evaluate(d, chosen) for d in t.shape], t.dtype, seed=seed + k, low=low, high=high
        )
        for k, (name, t) in enumerate(graph.inputs)
    }


def _smallest(low: int, high: int | None, multiple: int) -> int:
    wanted = -(-max(3, low) // multiple) * multiple
    return wanted if high is None or wanted <= high else high // multiple * multiple


def check_grad(
    function: Function | Tensor,
    inputs: Sequence[Any] | Mapping[Tensor, Any],
    *,
    order: int = 1,
    step: float | None = None,
    rtol: float = 1e-5,
    atol: float = 1e-7,
    seed: int = 0,
) -> None:
    """Compare gradients with central finite differences. Raises GradientError where they differ.

    function: a function of tensors, called on float64 placeholders shaped as `inputs` (arrays); or
    an output tensor, with `inputs` a dict from placeholder to array. order: 2 checks the gradient's
    own gradient as well. Outputs are contracted with fixed random weights.

        graphc.testing.check_grad(lambda x, w: graphc.tanh(x @ w), [x, w])
    """
    tensors, arrays, outputs = _declared(function, inputs)
    wrt = [t for t in tensors if t.dtype.is_float]
    if not wrt:
        raise GraphError(
            message("check_grad: no input has a float dtype", hint="pass float64 arrays")
        )
    cost = _weighted(outputs, seed)
    for level in range(1, order + 1):
        found = _gradients(cost, wrt)
        _compare(cost, found, tensors, arrays, wrt, step, rtol, atol, level)
        if level < order:
            cost = _weighted(found, seed + level)


def _declared(
    function: Function | Tensor, inputs: Sequence[Any] | Mapping[Tensor, Any]
) -> tuple[list[Tensor], list[Array], list[Tensor]]:
    if isinstance(inputs, Mapping):
        if not isinstance(function, Tensor):
            raise GraphError(
                "check_grad: with a dict of inputs the first argument is the output tensor"
            )
        return list(inputs), [np.asarray(a) for a in inputs.values()], [function]
    if isinstance(function, Tensor):
        raise GraphError(
            "check_grad: give the inputs of a tensor as a dict from placeholder to array"
        )
    # One array is one input, not a sequence of inputs.
    given = [inputs] if isinstance(inputs, np.ndarray | np.generic) else list(inputs)
    arrays = [np.asarray(a) for a in given]
    arrays = [a.astype(np.float64) if a.dtype.kind == "f" else a for a in arrays]
    tensors = [placeholder(a.shape, a.dtype) for a in arrays]
    result = function(*tensors)
    return tensors, arrays, list(result) if isinstance(result, list | tuple) else [result]


def _weighted(outputs: Sequence[Tensor], seed: int) -> Tensor:
    """A scalar that depends on every element: the sum of outputs times fixed random weights."""
    total: Tensor | None = None
    for k, output in enumerate(outputs):
        if not output.dtype.is_float:
            continue
        weights: Any = 1.0
        if all(isinstance(s, int) for s in output.shape):
            shape = tuple(s for s in output.shape if not isinstance(s, Dim))
            weights = random_array(shape, float64, seed=seed + 17 * k, low=0.5, high=1.5)
            weights = weights.astype(output.dtype.numpy)
        part = (output * as_tensor(weights, like=output)).sum()
        total = part if total is None else total + part
    if total is None:
        raise GraphError("check_grad: no output has a float dtype")
    return total


def _gradients(cost: Tensor, wrt: list[Tensor]) -> list[Tensor]:
    seed = as_tensor(1.0, like=cost)
    return cotangents("check_grad", [cost], [seed], wrt, allow_unused=True)


def _compare(
    cost: Tensor,
    gradients: Sequence[Tensor],
    tensors: list[Tensor],
    arrays: list[Array],
    wrt: list[Tensor],
    step: float | None,
    rtol: float,
    atol: float,
    level: int,
) -> None:
    graph = Graph(tensors, {"cost": cost, **{f"g{k}": g for k, g in enumerate(gradients)}})
    only_cost = Graph(tensors, {"cost": cost})
    names = [name for name, _ in graph.inputs]
    base = dict(zip(names, arrays, strict=True))
    values = graph.evaluate(base)
    for k, tensor in enumerate(wrt):
        position = next(i for i, t in enumerate(tensors) if t is tensor)
        numeric = _differences(only_cost, base, names[position], step)
        analytic = values[f"g{k}"]
        bad = ~np.isclose(
            analytic, numeric, rtol=rtol, atol=atol * max(1.0, np.abs(numeric).max(initial=0))
        )
        if bad.any():
            place = tuple(int(i) for i in np.argwhere(bad)[0])
            raise GradientError(
                f"check_grad: derivative of order {level} with respect to input {position} "
                f"({tensor.type}) at {place}: "
                f"gradient {analytic[place]!r}, finite difference {numeric[place]!r} "
                f"({int(bad.sum())} of {bad.size} elements differ)"
            )


def _differences(graph: Graph, base: Mapping[str, Array], name: str, step: float | None) -> Array:
    """Central differences of the cost, of fourth order, one element after another."""
    x = base[name]
    result = np.zeros(x.shape, np.float64)
    for place in np.ndindex(*x.shape):
        width = step or 1e-3 * max(1.0, abs(float(x[place]))) * 2.0**-2
        total = 0.0
        for offset, weight in ((-2, 1 / 12), (-1, -2 / 3), (1, 2 / 3), (2, -1 / 12)):
            moved = x.copy()
            moved[place] += offset * width
            total += weight * float(graph.evaluate({**base, name: moved})["cost"])
        result[place] = total / width
    return result


__all__ = ["GradientError", "check_grad", "random_array", "random_inputs"]
