"""Recurrent layers (floor 8): LSTM, GRU and RNN over graphc.nn's, one or two directions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from graphc.base.dims import Size
from graphc.ir.node import Tensor
from graphc.nn import activations, recurrent
from graphc.nn.recurrent import RecurrentWeights
from graphc.onnx.context import Context, op
from graphc.ops import elementwise, elementwise_math, logical, rounding
from graphc.ops.creation import filled
from graphc.ops.joining import concat, take_slice
from graphc.ops.reshape import split_axis, squeeze
from graphc.ops.view import permuted

Activation = Callable[[Tensor], Tensor]

# Of each activation: the parameters that a node may give, with ONNX's defaults.
_PARAMETERS: dict[str, tuple[float, ...]] = {
    "relu": (),
    "tanh": (),
    "sigmoid": (),
    "softsign": (),
    "softplus": (),
    "affine": (1.0, 0.0),
    "leakyrelu": (0.01,),
    "thresholdedrelu": (1.0,),
    "scaledtanh": (1.0, 1.0),
    "hardsigmoid": (0.2, 0.5),
    "elu": (1.0,),
}


def _scaled_tanh(x: Tensor, a: float, b: float) -> Tensor:
    return elementwise.multiply(elementwise_math.tanh(x * b), a)


def _affine(x: Tensor, a: float, b: float) -> Tensor:
    return elementwise.add(x * a, b)


def _hard_sigmoid(x: Tensor, a: float, b: float) -> Tensor:
    return rounding.clip(x * a + b, 0.0, 1.0)


def _thresholded_relu(x: Tensor, a: float) -> Tensor:
    return elementwise.where(logical.greater(x, a), x, 0.0)


_FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "relu": activations.relu,
    "tanh": activations.tanh,
    "sigmoid": activations.sigmoid,
    "softsign": activations.softsign,
    "softplus": activations.softplus,
    "affine": _affine,
    "leakyrelu": activations.leaky_relu,
    "thresholdedrelu": _thresholded_relu,
    "scaledtanh": _scaled_tanh,
    "hardsigmoid": _hard_sigmoid,
    "elu": activations.elu,
}


def _bound(name: str, values: Sequence[float], clip: float | None) -> Activation:
    """An activation with its parameters, of an argument that is cut to [-clip, clip]."""
    function = _FUNCTIONS[name]

    def activation(x: Tensor) -> Tensor:
        return function(x if clip is None else rounding.clip(x, -clip, clip), *values)

    return activation


def _activations(c: Context, directions: int, defaults: Sequence[str]) -> list[Activation]:
    """The activations of all directions. Parameters are taken up by those that have some."""
    names = c.attribute("activations") or list(defaults) * directions
    if len(names) == len(defaults) and directions == 2:
        names = list(names) * 2
    needed = len(defaults) * directions
    if len(names) < needed:
        c.bad(f"activations has {len(names)} names, expected {needed}")
    alphas = iter(c.attribute("activation_alpha") or ())
    betas = iter(c.attribute("activation_beta") or ())
    clip = c.attribute("clip")
    found = []
    for name in names[:needed]:
        key = name.lower()
        if key not in _PARAMETERS:
            c.bad(f"the activation {name!r:.40} is unknown")
        values = list(_PARAMETERS[key])
        for k, given in enumerate((alphas, betas)[: len(values)]):
            values[k] = next(given, values[k])
        found.append(_bound(key, values, clip))
    return found


def _directions(c: Context) -> int:
    word = c.attribute("direction")
    if word not in ("forward", "reverse", "bidirectional"):
        c.bad(f"attribute direction is {word!r:.40}, which is unknown")
    return 2 if word == "bidirectional" else 1


def _gates(x: Tensor, order: Sequence[int]) -> Tensor:
    """The rows of x [gates * hidden, …] with its gates in another order."""
    hidden = x.shape[0] // len(order)
    parts = [take_slice(x, 0, g * hidden, hidden) for g in order]
    return parts[0] if len(parts) == 1 else concat(parts, axis=0)


def _one(x: Tensor, direction: int) -> Tensor:
    """One direction of x [directions, …]."""
    return squeeze(take_slice(x, 0, direction, 1), axis=0)


def _weights(c: Context, direction: int, order: Sequence[int]) -> RecurrentWeights:
    """A direction's weights, the gates in graphc's order: W [gates * hidden, features]."""
    w, r = (_gates(_one(c.tensor(k), direction), order) for k in (1, 2))
    bias = bias_hidden = peephole = None
    if c.has(3):
        both = split_axis(_one(c.tensor(3), direction), 0, (2, r.shape[0]))
        bias, bias_hidden = (_gates(_one(both, k), order) for k in (0, 1))
    if c.has(7):
        peephole = _gates(_one(c.tensor(7), direction), (0, 2, 1))
        peephole = split_axis(peephole, 0, (3, r.shape[1]))
    return RecurrentWeights(permuted(w, (1, 0)), permuted(r, (1, 0)), bias, bias_hidden, peephole)


def _check(c: Context, gates: int, directions: int) -> None:
    x, w, r = c.tensor(0), c.tensor(1), c.tensor(2)
    hidden: Size = r.shape[-1]
    if x.ndim != 3 or w.shape != (directions, gates * hidden, x.shape[-1]):
        c.bad(f"operands 0 and 1 are {x.type} and {w.type}, which do not fit hidden size {hidden}")
    if r.shape != (directions, gates * hidden, hidden):
        c.bad(f"operand 2 is {r.type}, expected [{directions}, {gates * hidden}, {hidden}]")
    if c.has(3) and c.tensor(3).shape != (directions, 2 * gates * hidden):
        c.bad(f"operand 3 is {c.tensor(3).type}, expected [{directions}, {2 * gates * hidden}]")
    given = c.attribute("hidden_size")
    if given is not None and given != hidden:
        c.bad(f"attribute hidden_size is {given}, and the weights have {hidden}")


class _Run:
    """What the three operators share: layouts, directions, states."""

    def __init__(self, c: Context, gates: int) -> None:
        self.c = c
        self.directions = _directions(c)
        _check(c, gates, self.directions)
        self.batch_first = bool(c.attribute("layout", 0))
        self.lengths = c.optional(4)
        self.reverse = c.attribute("direction") == "reverse"

    def layer(self, order: Sequence[int]) -> list[recurrent.Layer]:
        """The weights of the one layer."""
        found = [_weights(self.c, d, order) for d in range(self.directions)]
        return [(found[0], found[1]) if len(found) == 2 else found[0]]

    def state(self, k: int) -> Tensor | None:
        """Operand k, an initial state: [directions, batch, hidden]."""
        found = self.c.optional(k)
        if found is None or not self.batch_first:
            return found
        return permuted(found, (1, 0, 2))

    def outputs(self, y: Tensor) -> Tensor:
        """[…, directions * hidden] as Y: [time, directions, batch, hidden], batch first if so."""
        wide = split_axis(y, 2, (self.directions, y.shape[2] // self.directions))
        return wide if self.batch_first else permuted(wide, (0, 2, 1, 3))

    def last(self, h: Tensor) -> Tensor:
        """A last state in the node's layout."""
        return permuted(h, (1, 0, 2)) if self.batch_first else h


@op("RNN")
def rnn(c: Context) -> list[Tensor]:
    """A plain recurrence."""
    run = _Run(c, 1)
    y, h = recurrent.rnn(
        c.tensor(0),
        run.layer((0,)),
        initial=run.state(5),
        lengths=run.lengths,
        reverse=run.reverse,
        time_first=not run.batch_first,
        activation=_activations(c, run.directions, ("Tanh",)),
    )
    return [run.outputs(y), run.last(h)]


@op("GRU")
def gru(c: Context) -> list[Tensor]:
    """A GRU: gates update, reset, new in ONNX's order."""
    run = _Run(c, 3)
    y, h = recurrent.gru(
        c.tensor(0),
        run.layer((1, 0, 2)),
        initial=run.state(5),
        lengths=run.lengths,
        reverse=run.reverse,
        time_first=not run.batch_first,
        activations=_activations(c, run.directions, ("Sigmoid", "Tanh")),
        reset_after=bool(c.attribute("linear_before_reset", 0)),
    )
    return [run.outputs(y), run.last(h)]


@op("LSTM")
def lstm(c: Context) -> list[Tensor]:
    """An LSTM: gates input, output, forget, cell in ONNX's order."""
    run = _Run(c, 4)
    h, cell = run.state(5), run.state(6)
    initial = None
    given = cell if h is None else h
    if given is not None:
        zeros = filled(0.0, given.shape, given.dtype)
        initial = (zeros if h is None else h, zeros if cell is None else cell)
    y, (last, last_cell) = recurrent.lstm(
        c.tensor(0),
        run.layer((0, 2, 3, 1)),
        initial=initial,
        lengths=run.lengths,
        reverse=run.reverse,
        time_first=not run.batch_first,
        activations=_activations(c, run.directions, ("Sigmoid", "Tanh", "Tanh")),
        coupled=bool(c.attribute("input_forget", 0)),
    )
    return [run.outputs(y), run.last(last), run.last(last_cell)]
