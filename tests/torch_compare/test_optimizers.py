"""The update rules of graphc.optimizers against torch.optim, step by step in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphc
from graphc import optimizers
from tests.torch_compare.comparing import draw, torch

STEPS = 25

# name: (rule of graphc, optimizer of torch, its options)
CASES: dict[str, tuple[Callable[..., Any], str, dict[str, Any]]] = {
    "sgd": (lambda v, g: optimizers.sgd(v, g, 0.03), "SGD", {"lr": 0.03}),
    "sgd with decay": (
        lambda v, g: optimizers.sgd(v, g, 0.03, weight_decay=0.1),
        "SGD",
        {"lr": 0.03, "weight_decay": 0.1},
    ),
    "momentum": (
        lambda v, g: optimizers.momentum(v, g, 0.03, 0.8),
        "SGD",
        {"lr": 0.03, "momentum": 0.8},
    ),
    "nesterov": (
        lambda v, g: optimizers.momentum(v, g, 0.03, 0.8, nesterov=True),
        "SGD",
        {"lr": 0.03, "momentum": 0.8, "nesterov": True},
    ),
    "adagrad": (
        lambda v, g: optimizers.adagrad(v, g, 0.1, epsilon=1e-3, initial=0.0),
        "Adagrad",
        {"lr": 0.1, "eps": 1e-3},
    ),
    "adagrad from 0.1": (
        lambda v, g: optimizers.adagrad(v, g, 0.1, epsilon=1e-3),
        "Adagrad",
        {"lr": 0.1, "eps": 1e-3, "initial_accumulator_value": 0.1},
    ),
    "rmsprop": (
        lambda v, g: optimizers.rmsprop(v, g, 0.01, decay=0.8, epsilon=1e-3),
        "RMSprop",
        {"lr": 0.01, "alpha": 0.8, "eps": 1e-3},
    ),
    "rmsprop centered": (
        lambda v, g: optimizers.rmsprop(v, g, 0.01, decay=0.8, epsilon=1e-3, centered=True),
        "RMSprop",
        {"lr": 0.01, "alpha": 0.8, "eps": 1e-3, "centered": True},
    ),
    "adam": (
        lambda v, g: optimizers.adam(v, g, 0.01, 0.8, 0.95, epsilon=1e-2),
        "Adam",
        {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-2},
    ),
    "adam as it comes": (optimizers.adam, "Adam", {}),
    "amsgrad": (
        lambda v, g: optimizers.adam(v, g, 0.01, epsilon=1e-3, amsgrad=True),
        "Adam",
        {"lr": 0.01, "eps": 1e-3, "amsgrad": True},
    ),
    "adamw": (
        lambda v, g: optimizers.adamw(v, g, 0.01, 0.8, 0.95, epsilon=1e-2, weight_decay=0.2),
        "AdamW",
        {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-2, "weight_decay": 0.2},
    ),
    "adamw as it comes": (optimizers.adamw, "AdamW", {}),
}


@pytest.mark.parametrize("name", CASES)
def test_steps(name: str) -> None:
    rule, theirs, options = CASES[name]
    t = torch()
    start, data = draw((4, 3), (STEPS, 5, 4))
    x = graphc.placeholder((5, 4), "float64")
    w = graphc.variable(start)
    b = graphc.variable(np.zeros(3))
    loss = graphc.mean(graphc.tanh(x @ w + b) ** 2) + 0.05 * graphc.sum(w * w)
    parameters = [t.tensor(start, requires_grad=True), t.zeros(3, dtype=t.float64)]
    parameters[1].requires_grad_()
    optimizer = getattr(t.optim, theirs)(parameters, **options)
    with graphc.Session(threads=1) as session:
        step = session.function([x], loss, updates=rule([w, b], graphc.grad(loss, [w, b])))
        for batch in data:
            found = step(batch)
            optimizer.zero_grad()
            hidden = t.tanh(t.tensor(batch) @ parameters[0] + parameters[1])
            other = (hidden**2).mean() + 0.05 * (parameters[0] ** 2).sum()
            other.backward()
            optimizer.step()
            np.testing.assert_allclose(found, other.item(), rtol=1e-11)
            for mine, parameter in zip((w, b), parameters, strict=True):
                np.testing.assert_allclose(
                    session.value(mine), parameter.detach().numpy(), rtol=1e-10, atol=1e-13
                )
    assert not np.allclose(parameters[0].detach().numpy(), start, atol=1e-3)
