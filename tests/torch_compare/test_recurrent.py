"""Recurrent layers against torch.nn: values and gradients in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphc
from graphc import nn
from tests.torch_compare.comparing import draw, torch

LAYERS = {"RNN": (nn.rnn, 1), "LSTM": (nn.lstm, 1), "GRU": (nn.gru, 1)}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_layers(name: str, bidirectional: bool) -> None:
    t = torch()
    t.manual_seed(0)
    module = getattr(t.nn, name)(
        3, 4, num_layers=2, batch_first=True, bidirectional=bidirectional
    ).double()
    (values,) = draw((2, 6, 3))
    ends = ["", "_reverse"] if bidirectional else [""]

    def weights(layer: int, end: str) -> nn.RecurrentWeights:
        arrays = [
            getattr(module, f"{what}_l{layer}{end}").detach().numpy()
            for what in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        ]
        return nn.RecurrentWeights(arrays[0].T, arrays[1].T, arrays[2], arrays[3])

    layers = [tuple(weights(k, end) for end in ends) for k in range(2)]
    x = graphc.placeholder(values.shape, "float64")
    outputs, last = LAYERS[name][0](x, layers)
    scale = np.random.default_rng(2).normal(size=outputs.shape)
    gradient = graphc.grad(graphc.sum(outputs * scale), x)
    with graphc.Session() as session:
        found = session.run([outputs, last, gradient], {x: values})
    given = t.tensor(values, requires_grad=True)
    expected, state = module(given)
    (expected * t.tensor(scale)).sum().backward()
    np.testing.assert_allclose(found[0], expected.detach().numpy(), rtol=1e-10, atol=1e-12)
    ours: Any = found[1] if isinstance(found[1], tuple) else (found[1],)
    theirs = state if isinstance(state, tuple) else (state,)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b.detach().numpy(), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(found[2], given.grad.numpy(), rtol=1e-10, atol=1e-12)
