"""Optimizers (floor 8): functions of variables and gradients that return an `updates` dict.

    updates = graphc.optimizers.adam(variables, graphc.grad(loss, variables), learning_rate=1e-3)
    step = session.function([x, t], loss, updates=updates)

`variables` and `gradients` are tensors or nests of one structure: a list, a dict by name.
Slots (moments, the step) are ordinary variables named after the variable they serve, so checkpoints
hold them. A learning rate may be a number or a 0-d tensor, for example a schedule of
`step_variable()`. Every rule computes in the variable's dtype (the 16-bit floats keep float32
slots).

Sources: momentum (Polyak 1964; Sutskever et al. 2013 for Nesterov's form), Adagrad (Duchi, Hazan,
Singer 2011), RMSprop (Tieleman, Hinton 2012), Adam (Kingma, Ba 2015), AdamW (Loshchilov, Hutter
2019), Lion (Chen et al. 2023).
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from graphc.autodiff.nest import flatten
from graphc.base.dtypes import DType, float32
from graphc.base.errors import DTypeError, GraphError, ShapeError, message
from graphc.ir.constant import ConstantValue, filled
from graphc.ir.node import Tensor, describe
from graphc.ops.creation import zeros_like
from graphc.ops.elementwise import maximum, minimum, where
from graphc.ops.elementwise_math import cos, exp, sqrt
from graphc.ops.promotion import astype
from graphc.ops.reduction import sum as sum_of
from graphc.ops.rounding import clip, floor, sign
from graphc.ops.state import variable

Rate = float | Tensor
Updates = dict[Tensor, Tensor]

__all__ = [
    "adagrad",
    "adam",
    "adamw",
    "clip_by_norm",
    "clip_by_value",
    "cosine_decay",
    "exponential_decay",
    "global_norm",
    "lion",
    "momentum",
    "piecewise_constant",
    "rmsprop",
    "sgd",
    "step_variable",
    "warmup",
]


# -- parts ----------------------------------------------------------------------------------------


def _matched(optimizer: str, variables: Any, gradients: Any) -> list[tuple[Any, Any]]:
    """The leaves of two nests of one structure side by side; dicts are matched by their keys."""
    if isinstance(variables, Mapping) and isinstance(gradients, Mapping):
        if set(variables) != set(gradients):
            odd = ", ".join(sorted(map(repr, set(variables) ^ set(gradients))))
            raise GraphError(
                message(
                    f"{optimizer}: variables and gradients have different keys: {odd} in one only",
                    hint="pass graphc.grad(loss, variables), which has the structure of variables",
                )
            )
        pairs = [(variables[k], gradients[k]) for k in variables]
    elif isinstance(variables, Sequence) and isinstance(gradients, Sequence):
        if len(variables) != len(gradients):
            raise GraphError(
                message(
                    f"{optimizer}: {len(variables)} variables but {len(gradients)} gradients",
                    hint="pass graphc.grad(loss, variables), which gives one gradient per "
                    "variable, in order",
                )
            )
        pairs = list(zip(variables, gradients, strict=True))
    else:
        return [(variables, gradients)]
    return [leaf for v, g in pairs for leaf in _matched(optimizer, v, g)]


def _pairs(optimizer: str, variables: Any, gradients: Any) -> list[tuple[Tensor, Tensor]]:
    pairs = _matched(optimizer, variables, gradients)
    for position, (v, g) in enumerate(pairs):
        if not isinstance(v, Tensor) or v.op.name != "variable":
            raise GraphError(
                message(
                    f"{optimizer}: item {position} must be a graphc.variable, got {v!r:.80}",
                    hint="only variables hold state: make it with graphc.variable(first_value)",
                )
            )
        if not v.dtype.is_float:
            raise DTypeError(
                message(
                    f"{optimizer}: cannot train the {v.dtype} variable {v.name or ''!r}",
                    operands=[describe(v)],
                    hint="make it of a float dtype, or leave it out",
                )
            )
        if not isinstance(g, Tensor):
            raise GraphError(
                message(
                    f"{optimizer}: gradient {position} must be a tensor, got {g!r:.80}",
                    hint="pass graphc.grad(loss, variables)",
                )
            )
        if g.shape != v.shape:
            raise ShapeError(
                message(
                    f"{optimizer}: gradient {position} has another shape than its variable",
                    operands=[describe(v), describe(g)],
                    hint="gradients are in the order of variables: graphc.grad(loss, variables)",
                )
            )
    return pairs


def _slot_dtype(v: Tensor) -> DType:
    return float32 if v.dtype.bits == 16 else v.dtype


def _slot(v: Tensor, suffix: str, value: float = 0.0) -> Tensor:
    """A variable of the shape of `v`, named after it."""
    shape = tuple(int(s) for s in v.shape)  # a variable's shape is known
    name = v.attr("name") or v.name
    return variable(
        _filled(shape, _slot_dtype(v), value),
        name=f"{name}/{suffix}" if name else None,
        trainable=False,
    )


# Live ones, as few as there are shapes: zeros of every slot would be as much memory as the weights.
_FILLED: weakref.WeakValueDictionary[object, ConstantValue] = weakref.WeakValueDictionary()


def _filled(shape: tuple[int, ...], dtype: DType, value: float) -> ConstantValue:
    key = shape, dtype.name, repr(value)
    found = _FILLED.get(key)
    if found is None:
        found = _FILLED[key] = filled(shape, dtype, value)
    return found


def _gradient(v: Tensor, g: Tensor) -> Tensor:
    return astype(g, _slot_dtype(v))


def _apply(v: Tensor, step: Tensor) -> Tensor:
    """v - step, in the slots' dtype, rounded once to the variable's."""
    return astype(astype(v, _slot_dtype(v)) - step, v.dtype)


def _rate(rate: Rate, v: Tensor) -> Any:
    return astype(rate, _slot_dtype(v)) if isinstance(rate, Tensor) else rate


def _check_range(optimizer: str, **values: float) -> None:
    for name, value in values.items():
        if not 0.0 <= value < 1.0:
            raise GraphError(
                message(
                    f"{optimizer}: {name} is out of range, got {value}",
                    hint=f"{name} must be at least 0 and below 1",
                )
            )


def step_variable(name: str = "step") -> Tensor:
    """An int64 variable that counts steps from 0; add `{step: step + 1}` to the updates (optimizers
    with a step do so themselves).
    """
    return variable(np.zeros((), np.int64), name=name, trainable=False)


# -- update rules ---------------------------------------------------------------------------------
# Constants stand on the right, where rewriting would put them: there is an update for each weight.


def sgd(
    variables: Any, gradients: Any, learning_rate: Rate = 1e-2, weight_decay: float = 0.0
) -> Updates:
    """v <- v - learning_rate * (g + weight_decay * v)."""
    updates: Updates = {}
    for v, g in _pairs("sgd", variables, gradients):
        direction = _gradient(v, g)
        if weight_decay:
            direction = direction + astype(v, _slot_dtype(v)) * weight_decay
        updates[v] = _apply(v, direction * _rate(learning_rate, v))
    return updates


def momentum(
    variables: Any,
    gradients: Any,
    learning_rate: Rate = 1e-2,
    beta: float = 0.9,
    nesterov: bool = False,
) -> Updates:
    """m <- beta * m + g; v <- v - learning_rate * m (nesterov: g + beta * m)."""
    _check_range("momentum", beta=beta)
    updates: Updates = {}
    for v, g in _pairs("momentum", variables, gradients):
        m = _slot(v, "momentum")
        gradient = _gradient(v, g)
        updates[m] = m * beta + gradient
        direction = gradient + updates[m] * beta if nesterov else updates[m]
        updates[v] = _apply(v, direction * _rate(learning_rate, v))
    return updates


def adagrad(
    variables: Any,
    gradients: Any,
    learning_rate: Rate = 1e-2,
    epsilon: float = 1e-7,
    initial: float = 0.1,
) -> Updates:
    """a <- a + g^2, from `initial`; v <- v - learning_rate * g / (sqrt(a) + epsilon)."""
    updates: Updates = {}
    for v, g in _pairs("adagrad", variables, gradients):
        a = _slot(v, "accumulator", initial)
        gradient = _gradient(v, g)
        updates[a] = a + gradient * gradient
        updates[v] = _apply(v, gradient * _rate(learning_rate, v) / (sqrt(updates[a]) + epsilon))
    return updates


def rmsprop(
    variables: Any,
    gradients: Any,
    learning_rate: Rate = 1e-3,
    decay: float = 0.9,
    epsilon: float = 1e-7,
    centered: bool = False,
) -> Updates:
    """s <- decay * s + (1 - decay) * g^2; v <- v - learning_rate * g / (sqrt(s) + epsilon).

    centered: the variance takes the place of s (the mean of g, squared, is taken off).
    """
    _check_range("rmsprop", decay=decay)
    updates: Updates = {}
    for v, g in _pairs("rmsprop", variables, gradients):
        s = _slot(v, "square")
        gradient = _gradient(v, g)
        updates[s] = s * decay + gradient * (1.0 - decay) * gradient
        spread = updates[s]
        if centered:
            m = _slot(v, "mean")
            updates[m] = m * decay + gradient * (1.0 - decay)
            spread = maximum(spread - updates[m] * updates[m], 0.0)
        updates[v] = _apply(v, gradient * _rate(learning_rate, v) / (sqrt(spread) + epsilon))
    return updates


def adam(
    variables: Any,
    gradients: Any,
    learning_rate: Rate = 1e-3,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    amsgrad: bool = False,
) -> Updates:
    """m <- beta1 m + (1 - beta1) g; s <- beta2 s + (1 - beta2) g^2; v <- v - learning_rate * m' /
    (sqrt(s') + epsilon), where m' and s' are divided by 1 - beta^t. amsgrad: the largest s so far
    takes its place.
    """
    return _adam("adam", variables, gradients, learning_rate, beta1, beta2, epsilon, 0.0, amsgrad)


def adamw(
    variables: Any,
    gradients: Any,
    learning_rate: Rate = 1e-3,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    weight_decay: float = 1e-2,
    amsgrad: bool = False,
) -> Updates:
    """Adam with decoupled weight decay: v also loses learning_rate * weight_decay * v."""
    return _adam(
        "adamw", variables, gradients, learning_rate, beta1, beta2, epsilon, weight_decay, amsgrad
    )


def _adam(
    optimizer: str,
    variables: Any,
    gradients: Any,
    learning_rate: Rate,
    beta1: float,
    beta2: float,
    epsilon: float,
    weight_decay: float,
    amsgrad: bool,
) -> Updates:
    _check_range(optimizer, beta1=beta1, beta2=beta2)
    pairs = _pairs(optimizer, variables, gradients)
    # beta^t as products: exact for every t that float32 can still tell from 1, and no pow per step.
    power1 = variable(np.ones((), np.float64), name=f"{optimizer}/beta1_power", trainable=False)
    power2 = variable(np.ones((), np.float64), name=f"{optimizer}/beta2_power", trainable=False)
    updates: Updates = {power1: power1 * beta1, power2: power2 * beta2}
    # Both corrections in one factor: learning_rate * sqrt(1 - beta2^t) / (1 - beta1^t); epsilon is
    # scaled alike.
    root = sqrt(1.0 - updates[power2])
    factor = root / (1.0 - updates[power1])
    for v, g in pairs:
        m, s = _slot(v, "m"), _slot(v, "v")
        dtype = _slot_dtype(v)
        gradient = _gradient(v, g)
        updates[m] = m * beta1 + gradient * (1.0 - beta1)
        updates[s] = s * beta2 + gradient * (1.0 - beta2) * gradient
        spread = updates[s]
        if amsgrad:
            largest = _slot(v, "v_max")
            updates[largest] = maximum(largest, spread)
            spread = updates[largest]
        rate = _rate(learning_rate, v)
        step = (
            rate
            * astype(factor, dtype)
            * updates[m]
            / (sqrt(spread) + astype(epsilon * root, dtype))
        )
        if weight_decay:
            step = step + astype(v, dtype) * (rate * weight_decay)
        updates[v] = _apply(v, step)
    return updates


def lion(
    variables: Any,
    gradients: Any,
    learning_rate: Rate = 1e-4,
    beta1: float = 0.9,
    beta2: float = 0.99,
    weight_decay: float = 0.0,
) -> Updates:
    """v <- v - learning_rate * (sign(beta1 m + (1 - beta1) g) + weight_decay * v); m <- beta2 m +
    (1 - beta2) g.
    """
    _check_range("lion", beta1=beta1, beta2=beta2)
    updates: Updates = {}
    for v, g in _pairs("lion", variables, gradients):
        m = _slot(v, "m")
        gradient = _gradient(v, g)
        direction = sign(m * beta1 + gradient * (1.0 - beta1))
        if weight_decay:
            direction = direction + astype(v, _slot_dtype(v)) * weight_decay
        updates[m] = m * beta2 + gradient * (1.0 - beta2)
        updates[v] = _apply(v, direction * _rate(learning_rate, v))
    return updates


# -- gradient clipping ----------------------------------------------------------------------------


def global_norm(gradients: Any) -> Tensor:
    """The square root of the sum of squares over all gradients (a nest), 0-d; float32 or wider."""
    leaves, _ = flatten(gradients, "global_norm: gradients")
    if not leaves:
        raise GraphError(
            message("global_norm: no gradients given", hint="pass graphc.grad(loss, variables)")
        )
    total: Tensor | None = None
    for g in leaves:
        wide = astype(g, float32) if g.dtype.bits == 16 else g
        part = sum_of(wide * wide)
        total = part if total is None else total + part
    assert total is not None
    return sqrt(total)


def clip_by_norm(gradients: Any, limit: float) -> Any:
    """Gradients scaled by min(1, limit / norm), the norm taken over all of them together.

    gradients: a nest, as `graphc.grad` gives it; the result has its structure. Zero gradients stay
    zero. Raises GraphError unless limit > 0.

        gradients = graphc.optimizers.clip_by_norm(graphc.grad(loss, variables), 1.0)
    """
    if not limit > 0:
        raise GraphError(
            message(
                f"clip_by_norm: the limit must be positive, got {limit}",
                hint="it is the largest norm that passes unchanged; 1.0 is common",
            )
        )
    leaves, rebuild = flatten(gradients, "clip_by_norm: gradients")
    norm = global_norm(leaves)
    factor = limit / maximum(norm, limit)
    return rebuild(iter([g * astype(factor, g.dtype) for g in leaves]))


def clip_by_value(gradients: Any, low: float, high: float) -> Any:
    """Every element of every gradient brought into [low, high].

    gradients: a nest; the result has its structure. Raises GraphError unless low <= high.

        gradients = graphc.optimizers.clip_by_value(graphc.grad(loss, variables), -1.0, 1.0)
    """
    if not low <= high:
        raise GraphError(
            message(
                f"clip_by_value: low must not exceed high, got {low} and {high}",
                hint="write clip_by_value(gradients, -limit, limit)",
            )
        )
    leaves, rebuild = flatten(gradients, "clip_by_value: gradients")
    return rebuild(iter([clip(g, low, high) for g in leaves]))


# -- schedules: expressions of a step (int64, 0-d) that give a float32 rate -----------------------


def _progress(step: Tensor, steps: int) -> Tensor:
    if steps < 1:
        raise GraphError(
            message(f"a schedule needs at least 1 step, got {steps}", hint="steps is its length")
        )
    return minimum(astype(step, float32) / float(steps), 1.0)


def exponential_decay(
    step: Tensor, initial: float, rate: float, steps: int, staircase: bool = False
) -> Tensor:
    """initial * rate ** (step / steps); staircase: the exponent is rounded down."""
    if steps < 1 or not rate > 0:
        raise GraphError(
            message(
                f"exponential_decay: no schedule has steps={steps} and rate={rate}",
                hint="steps >= 1 and rate > 0: the value is multiplied by rate every `steps` steps",
            )
        )
    exponent = astype(step, float32) / float(steps)
    if staircase:
        exponent = floor(exponent)
    return initial * exp(exponent * float(np.log(rate)))


def cosine_decay(step: Tensor, initial: float, steps: int, final: float = 0.0) -> Tensor:
    """From `initial` to `final` along half a cosine in `steps` steps, `final` afterwards."""
    return final + (initial - final) * 0.5 * (1.0 + cos(_progress(step, steps) * float(np.pi)))


def warmup(step: Tensor, steps: int, schedule: Tensor | float) -> Tensor:
    """`schedule` times a factor that grows from 1 / steps to 1 in the first `steps` steps."""
    if steps < 1:
        raise GraphError(
            message(f"warmup: need at least 1 step, got {steps}", hint="leave warmup out for none")
        )
    factor = minimum((astype(step, float32) + 1.0) / float(steps), 1.0)
    return factor * schedule


def piecewise_constant(step: Tensor, boundaries: Sequence[int], values: Sequence[float]) -> Tensor:
    """values[0] up to boundaries[0], then values[1] … (one more value than boundaries; boundaries
    ascend).
    """
    if len(values) != len(boundaries) + 1 or list(boundaries) != sorted(boundaries):
        raise GraphError(
            message(
                f"piecewise_constant: {len(boundaries)} boundaries and {len(values)} values do "
                "not make a schedule",
                hint="boundaries ascend, and there is one more value than boundaries",
            )
        )
    result = zeros_like(astype(step, float32)) + values[0]
    for boundary, value in zip(boundaries, values[1:], strict=True):
        result = where(step >= boundary, value, result)
    return result
