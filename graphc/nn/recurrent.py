"""Recurrent layers (floor 8): `rnn`, `lstm`, `gru` and their cells, as compositions over `scan`.

Weights are arguments. The projections of the inputs of all steps are one matrix product before the
loop; a step multiplies the state only. Gates stand side by side in one matrix, in the order that
PyTorch and Keras share (Keras for the LSTM alone): LSTM input, forget, cell, output; GRU reset,
update, new.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from graphc.base.dims import Size
from graphc.control_flow import scan
from graphc.ir.node import Tensor
from graphc.ir.opdef import dtype_error, shape_error
from graphc.nn.activations import sigmoid, tanh
from graphc.ops import elementwise, logical
from graphc.ops.contraction import matmul
from graphc.ops.creation import iota
from graphc.ops.joining import concat, stack, take_slice
from graphc.ops.promotion import TensorLike, as_tensor, cast
from graphc.ops.reduction import as_float
from graphc.ops.reshape import expand_dims, to_shape
from graphc.ops.view import broadcast_to, permute_dims

Activation = Callable[[Tensor], Tensor]


class RecurrentWeights(NamedTuple):
    """The weights of one layer in one direction; gates is 1 (rnn), 4 (lstm) or 3 (gru).

    w_input: (features, gates * hidden). w_hidden: (state, gates * hidden), state being what a step
    hands on: hidden, or the columns of the projection. bias: (gates * hidden,), added to the
    input's projection. bias_hidden: (gates * hidden,), added to the state's; it differs from `bias`
    in a GRU only, where the reset gate multiplies it. peephole (lstm): (3, hidden), the weights of
    the cell state in the input, forget and output gates. projection (lstm): (hidden, state).
    """

    w_input: TensorLike
    w_hidden: TensorLike
    bias: TensorLike | None = None
    bias_hidden: TensorLike | None = None
    peephole: TensorLike | None = None
    projection: TensorLike | None = None


Layer = RecurrentWeights | tuple[RecurrentWeights, RecurrentWeights]


# -- cells ----------------------------------------------------------------------------------------


def rnn_cell(
    x: TensorLike, h: TensorLike, weights: RecurrentWeights, *, activation: Activation = tanh
) -> Tensor:
    """One step of a plain recurrence: activation(x @ w_input + h @ w_hidden + biases).

    x (batch, features), h (batch, hidden) -> (batch, hidden).
    """
    parts = _Parts("rnn_cell", weights, 1)
    return _rnn_step(parts, activation)(parts.inputs(_floats("rnn_cell", x)), as_tensor(h))


def lstm_cell(
    x: TensorLike,
    state: tuple[TensorLike, TensorLike],
    weights: RecurrentWeights,
    *,
    activations: tuple[Activation, Activation, Activation] = (sigmoid, tanh, tanh),
    coupled: bool = False,
) -> tuple[Tensor, Tensor]:
    """One step of an LSTM (Hochreiter and Schmidhuber 1997, with forget gates): the new (h, c).

    x (batch, features), h (batch, state), c (batch, hidden). activations: of the gates, of the
    candidate, of the cell state on its way out. coupled: the forget gate is 1 - the input gate.
    """
    parts = _Parts("lstm_cell", weights, 4)
    h, c = (as_tensor(t, op="lstm_cell") for t in state)
    return _lstm_step(parts, activations, coupled)(parts.inputs(_floats("lstm_cell", x)), h, c)


def gru_cell(
    x: TensorLike,
    h: TensorLike,
    weights: RecurrentWeights,
    *,
    activations: tuple[Activation, Activation] = (sigmoid, tanh),
    reset_after: bool = True,
) -> Tensor:
    """One step of a GRU (Cho et al. 2014): (1 - update) * new + update * h.

    x (batch, features), h (batch, hidden) -> (batch, hidden). reset_after: the reset gate
    multiplies the projected state (PyTorch; ONNX's linear_before_reset), not the state before its
    projection.
    """
    parts = _Parts("gru_cell", weights, 3)
    step = _gru_step(parts, activations, reset_after)
    return step(parts.inputs(_floats("gru_cell", x)), as_tensor(h, op="gru_cell"))


# -- layers ---------------------------------------------------------------------------------------


def rnn(
    x: TensorLike,
    layers: Layer | Sequence[Layer],
    *,
    initial: TensorLike | None = None,
    lengths: TensorLike | None = None,
    reverse: bool = False,
    time_first: bool = False,
    activation: Activation | Sequence[Activation] = tanh,
    checkpoint: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Plain recurrent layers: (outputs, last states).

    x: (batch, time, features), or (time, batch, features) with `time_first`. layers: the weights of
    each layer from the first to the last; a pair (forward, backward) makes a layer bidirectional.
    initial: (layers * directions, batch, hidden), zeros by default; the last states have this
    shape, too. lengths: integers (batch,): later steps are masked: states stay as they are and
    outputs are zeros. reverse: from the last step to the first. activation: one for all, or one
    for each direction. checkpoint: keep every so many steps' states only for the gradient, and
    compute the others again. outputs: (batch, time, directions * hidden). Raises ShapeError,
    DTypeError where something does not fit.
    """
    given = (activation,) if callable(activation) else tuple(activation)

    def cell(weights: RecurrentWeights, direction: int) -> _Cell:
        parts = _Parts("rnn", weights, 1)
        step = _rnn_step(parts, given[direction % len(given)])
        return _Cell(parts, (parts.hidden,), lambda z, state: (step(z, *state),))

    run = _Run("rnn", lengths, reverse, time_first, checkpoint)
    outputs, (last,) = run.layers(x, layers, None if initial is None else (initial,), cell)
    return outputs, last


def lstm(
    x: TensorLike,
    layers: Layer | Sequence[Layer],
    *,
    initial: tuple[TensorLike, TensorLike] | None = None,
    lengths: TensorLike | None = None,
    reverse: bool = False,
    time_first: bool = False,
    activations: Sequence[Activation] = (sigmoid, tanh, tanh),
    coupled: bool = False,
    checkpoint: int | None = None,
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """LSTM layers: (outputs, (last h, last c)); see `lstm_cell`, and `rnn` for the arguments.

    initial: (h, c), h (layers * directions, batch, state), c (layers * directions, batch, hidden).
    activations: 3 for both directions, or 6: of the forward direction, then of the backward one.
    """

    def cell(weights: RecurrentWeights, direction: int) -> _Cell:
        parts = _Parts("lstm", weights, 4)
        mine = _three(activations, direction)
        step = _lstm_step(parts, mine, coupled)
        return _Cell(parts, (parts.state, parts.hidden), lambda z, state: step(z, *state))

    run = _Run("lstm", lengths, reverse, time_first, checkpoint)
    outputs, (h, c) = run.layers(x, layers, initial, cell)
    return outputs, (h, c)


def gru(
    x: TensorLike,
    layers: Layer | Sequence[Layer],
    *,
    initial: TensorLike | None = None,
    lengths: TensorLike | None = None,
    reverse: bool = False,
    time_first: bool = False,
    activations: Sequence[Activation] = (sigmoid, tanh),
    reset_after: bool = True,
    checkpoint: int | None = None,
) -> tuple[Tensor, Tensor]:
    """GRU layers: (outputs, last states); see `gru_cell`, and `rnn` for the arguments.

    activations: 2 for both directions, or 4: of the forward direction, then of the backward one.
    """

    def cell(weights: RecurrentWeights, direction: int) -> _Cell:
        parts = _Parts("gru", weights, 3)
        at = 2 * direction if len(activations) > 2 else 0
        step = _gru_step(parts, (activations[at], activations[at + 1]), reset_after)
        return _Cell(parts, (parts.hidden,), lambda z, state: (step(z, *state),))

    run = _Run("gru", lengths, reverse, time_first, checkpoint)
    outputs, (last,) = run.layers(x, layers, None if initial is None else (initial,), cell)
    return outputs, last


def _three(
    activations: Sequence[Activation], direction: int
) -> tuple[Activation, Activation, Activation]:
    at = 3 * direction if len(activations) > 3 else 0
    return activations[at], activations[at + 1], activations[at + 2]


# -- steps: from the input's projection and the state to the new state -----------------------------


def _floats(op: str, x: TensorLike) -> Tensor:
    return as_float(op, as_tensor(x, op=op))


class _Parts:
    """The weights of one direction as tensors, checked against each other."""

    def __init__(self, op: str, weights: RecurrentWeights, gates: int) -> None:
        if not isinstance(weights, RecurrentWeights):
            dtype_error(
                f"{op}: the weights of a layer must be graphc.nn.RecurrentWeights, "
                f"got {type(weights).__name__}",
                hint="RecurrentWeights(w_input, w_hidden, bias)",
            )
        self.op, self.gates = op, gates
        self.w_input, self.w_hidden = (_floats(op, w) for w in weights[:2])
        for what, w in (("w_input", self.w_input), ("w_hidden", self.w_hidden)):
            if w.ndim != 2:
                shape_error(f"{op}: {what} must be a matrix, got {w.type}", [w])
        self.state, columns = self.w_hidden.shape
        if columns != self.w_input.shape[1] or not isinstance(columns, int) or columns % gates:
            shape_error(
                f"{op}: w_input and w_hidden must both have {gates} * hidden columns, got "
                f"{self.w_input.type} and {self.w_hidden.type}",
                [self.w_input, self.w_hidden],
            )
        self.hidden = columns // gates
        wide = (columns,)
        self.bias = self._optional("bias", weights.bias, wide)
        self.bias_hidden = self._optional("bias_hidden", weights.bias_hidden, wide)
        self.peephole = self._optional("peephole", weights.peephole, (3, self.hidden))
        self.projection = self._optional(
            "projection", weights.projection, (self.hidden, self.state)
        )
        if self.projection is None and self.state != self.hidden:
            shape_error(
                f"{op}: w_hidden takes a state of {self.state}, a step gives {self.hidden}",
                [self.w_hidden],
                "w_hidden is (hidden, gates * hidden); an LSTM may have a projection",
            )

    def _optional(self, what: str, value: TensorLike | None, shape: tuple[Size, ...]) -> Any:
        if value is None:
            return None
        tensor = as_tensor(value, like=self.w_input, op=self.op)
        if tensor.shape != shape:
            wanted = ", ".join(map(str, shape))
            shape_error(
                f"{self.op}: {what} must have shape ({wanted}), got {tensor.type}", [tensor]
            )
        return tensor

    def inputs(self, x: Tensor) -> Tensor:
        """The input's part of all gates: (..., features) -> (..., gates * hidden)."""
        if x.shape[-1] != self.w_input.shape[0]:
            shape_error(
                f"{self.op}: the input has {x.shape[-1]} features, w_input takes "
                f"{self.w_input.shape[0]}",
                [x, self.w_input],
            )
        product = matmul(x, self.w_input)
        return product if self.bias is None else elementwise.add(product, self.bias)

    def of_state(self, h: Tensor) -> Tensor:
        """The state's part of all gates."""
        product = matmul(h, self.w_hidden)
        return product if self.bias_hidden is None else elementwise.add(product, self.bias_hidden)

    def gate(self, values: Tensor, number: int) -> Tensor:
        """One gate of values for all of them."""
        return take_slice(values, values.ndim - 1, number * self.hidden, self.hidden)


def _rnn_step(parts: _Parts, activation: Activation) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda z, h: activation(elementwise.add(z, parts.of_state(h)))


def _lstm_step(
    parts: _Parts, activations: tuple[Activation, Activation, Activation], coupled: bool
) -> Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]:
    of_gates, of_candidate, of_cell = activations

    def seen(number: int, value: Tensor, cell: Tensor) -> Tensor:
        """A gate's argument with the weights by which it looks at a cell state."""
        if parts.peephole is None:
            return value
        weight = to_shape(take_slice(parts.peephole, 0, number, 1), (parts.hidden,))
        return elementwise.add(value, elementwise.multiply(weight, cell))

    def step(z: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        values = elementwise.add(z, parts.of_state(h))
        let_in = of_gates(seen(0, parts.gate(values, 0), c))
        keep = 1 - let_in if coupled else of_gates(seen(1, parts.gate(values, 1), c))
        candidate = of_candidate(parts.gate(values, 2))
        cell = elementwise.add(
            elementwise.multiply(keep, c), elementwise.multiply(let_in, candidate)
        )
        out = of_gates(seen(2, parts.gate(values, 3), cell))
        hidden = elementwise.multiply(out, of_cell(cell))
        return hidden if parts.projection is None else matmul(hidden, parts.projection), cell

    return step


def _gru_step(
    parts: _Parts, activations: tuple[Activation, Activation], reset_after: bool
) -> Callable[[Tensor, Tensor], Tensor]:
    of_gates, of_candidate = activations
    both = 2 * parts.hidden

    def columns(values: Tensor, start: int, count: int) -> Tensor:
        return take_slice(values, values.ndim - 1, start, count)

    def candidate(h: Tensor, reset: Tensor, projected: Tensor | None) -> Tensor:
        if projected is not None:
            return elementwise.multiply(reset, parts.gate(projected, 2))
        product = matmul(
            elementwise.multiply(reset, h), columns(parts.w_hidden, both, parts.hidden)
        )
        if parts.bias_hidden is None:
            return product
        return elementwise.add(product, columns(parts.bias_hidden, both, parts.hidden))

    def step(z: Tensor, h: Tensor) -> Tensor:
        projected = parts.of_state(h) if reset_after else None
        if projected is None:
            gates = matmul(h, columns(parts.w_hidden, 0, both))
            if parts.bias_hidden is not None:
                gates = elementwise.add(gates, columns(parts.bias_hidden, 0, both))
        else:
            gates = columns(projected, 0, both)
        gates = of_gates(elementwise.add(columns(z, 0, both), gates))
        reset, update = parts.gate(gates, 0), parts.gate(gates, 1)
        new = of_candidate(elementwise.add(parts.gate(z, 2), candidate(h, reset, projected)))
        kept = elementwise.multiply(update, elementwise.subtract(h, new))
        return elementwise.add(new, kept)

    return step


# -- loops ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Cell:
    """One direction of a layer. sizes: of each part of the state; the first is the output."""

    parts: _Parts
    sizes: tuple[Size, ...]
    step: Callable[[Tensor, tuple[Tensor, ...]], tuple[Tensor, ...]]


class _Run:
    """What all layers of one call share."""

    def __init__(
        self,
        op: str,
        lengths: TensorLike | None,
        reverse: bool,
        time_first: bool,
        checkpoint: int | None,
    ) -> None:
        self.op, self.reverse, self.time_first = op, reverse, time_first
        self.checkpoint = checkpoint
        self.lengths = None if lengths is None else as_tensor(lengths, op=op)

    def layers(
        self,
        x: TensorLike,
        layers: Layer | Sequence[Layer],
        initial: Sequence[TensorLike] | None,
        cell: Callable[[RecurrentWeights, int], _Cell],
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Outputs and last states, each part stacked over layers and directions."""
        found = self._rows(_floats(self.op, x))
        self._check_lengths(found)
        each = _as_layers(self.op, layers)
        starts = None
        if initial is not None:
            starts = [as_tensor(t, like=found, op=self.op) for t in initial]
        last: list[tuple[Tensor, ...]] = []
        total = sum(map(len, each))
        for layer in each:
            directions = []
            for direction, weights in enumerate(layer):
                one = cell(weights, direction)
                state = self._start(found, one, starts, len(last), total)
                outputs, state = self._direction(found, one, state, self.reverse != (direction > 0))
                directions.append(outputs)
                last.append(state)
            found = directions[0] if len(directions) == 1 else concat(directions, axis=2)
        return self._rows(found), tuple(stack(list(parts)) for parts in zip(*last, strict=True))

    def _rows(self, x: Tensor) -> Tensor:
        """(batch, time, features) as (time, batch, features) and back."""
        if x.ndim != 3:
            order = "(time, batch, features)" if self.time_first else "(batch, time, features)"
            shape_error(f"{self.op}: x must be {order}, got {x.type}", [x])
        return x if self.time_first else permute_dims(x, (1, 0, 2))

    def _check_lengths(self, x: Tensor) -> None:
        if self.lengths is None:
            return
        if not self.lengths.dtype.is_integer or self.lengths.shape != x.shape[1:2]:
            shape_error(
                f"{self.op}: lengths must be integers of shape ({x.shape[1]},), "
                f"got {self.lengths.type}",
                [self.lengths, x],
            )

    def _start(
        self, x: Tensor, cell: _Cell, starts: Sequence[Tensor] | None, number: int, total: int
    ) -> tuple[Tensor, ...]:
        batch = x.shape[1]
        if starts is None:
            zero = as_tensor(0.0, like=x)
            return tuple(broadcast_to(zero, (batch, size)) for size in cell.sizes)
        result = []
        for start, size in zip(starts, cell.sizes, strict=True):
            if start.shape != (total, batch, size):
                shape_error(
                    f"{self.op}: an initial state must have shape ({total}, {batch}, {size}): "
                    f"layers * directions, batch, size; got {start.type}",
                    [start, x],
                )
            result.append(to_shape(take_slice(start, 0, number, 1), (batch, size)))
        return tuple(result)

    def _direction(
        self, x: Tensor, cell: _Cell, state: tuple[Tensor, ...], reverse: bool
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        projected = cell.parts.inputs(x)
        state = tuple(cast(s, projected.dtype) for s in state)

        def turn(
            carry: tuple[Tensor, ...], row: tuple[Tensor, ...]
        ) -> tuple[tuple[Tensor, ...], Tensor]:
            new = cell.step(row[0], carry)
            if len(row) == 1:
                return new, new[0]
            # A row beyond its length: the state waits, the output is 0.
            held = tuple(
                elementwise.where(row[1], n, old) for n, old in zip(new, carry, strict=True)
            )
            return held, elementwise.where(row[1], new[0], 0)

        rows: tuple[Tensor, ...] = (projected,)
        if self.lengths is not None:
            places = iota((x.shape[0], 1), 0)
            valid = logical.less(places, cast(self.lengths, places.dtype))
            rows = (projected, expand_dims(valid, axis=2))
        last, outputs = scan(turn, state, rows, reverse=reverse, checkpoint=self.checkpoint)
        return outputs, last


def _as_layers(op: str, layers: Layer | Sequence[Layer]) -> list[tuple[RecurrentWeights, ...]]:
    if isinstance(layers, RecurrentWeights):
        return [(layers,)]
    found: list[tuple[RecurrentWeights, ...]] = []
    for layer in [layers] if isinstance(layers, tuple) else layers:
        one = (layer,) if isinstance(layer, RecurrentWeights) else tuple(layer)
        if not 1 <= len(one) <= 2 or not all(isinstance(w, RecurrentWeights) for w in one):
            shape_error(
                f"{op}: a layer must be RecurrentWeights or a pair of them (forward, backward)",
                hint="layers is a list with one entry for each layer",
            )
        found.append(one)
    if not found:
        shape_error(f"{op}: expected at least one layer")
    return found
