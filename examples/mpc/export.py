"""Fit a neural model of a pendulum's motion and compile it, with its Jacobians, for a controller.

The pendulum is simulated; the network sees only states before and after a step.  Written into the
output folder: `pendulum/`, a library whose one call gives the next state and its Jacobians with
respect to state and torque, in float64.

    python examples/mpc/export.py --out build
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path
from typing import Any

import numpy as np

import graphc

Array = np.ndarray[Any, Any]
# A weight of 1 kg on a rod of 1 m, with friction; angle 0 is upright. mpc.c simulates the same.
GRAVITY, FRICTION, TORQUE = 9.81, 0.05, 4.0  # m/s^2, N m s, largest torque in N m
STEP = 0.05  # s: what the model looks ahead in one call
HIDDEN = 24


def motion(state: Array, torque: Array) -> Array:
    """Time derivative of (angle, velocity), the last axis."""
    angle, velocity = state[..., 0], state[..., 1]
    return np.stack(
        [velocity, GRAVITY * np.sin(angle) - FRICTION * velocity + torque[..., 0]], axis=-1
    )


def simulate(state: Array, torque: Array, turns: int = 10) -> Array:
    """The state after STEP: Runge-Kutta of fourth order."""
    h = STEP / turns
    for _ in range(turns):
        k1 = motion(state, torque)
        k2 = motion(state + h / 2 * k1, torque)
        k3 = motion(state + h / 2 * k2, torque)
        k4 = motion(state + h * k3, torque)
        state = state + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return state


def samples(count: int, rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """States (count, 2), torques (count, 1), and the states that follow."""
    states = rng.uniform([-np.pi, -9], [np.pi, 9], (count, 2))
    torques = rng.uniform(-1.2 * TORQUE, 1.2 * TORQUE, (count, 1))
    return states, torques, simulate(states, torques)


def initial_weights(rng: np.random.Generator) -> list[Array]:
    sizes = (4, HIDDEN, HIDDEN, 2)
    weights: list[Array] = []
    for before, after in itertools.pairwise(sizes):
        weights += [rng.normal(0, np.sqrt(1 / before), (before, after)), np.zeros(after)]
    return weights


def model(
    state: graphc.Tensor, torque: graphc.Tensor, weights: list[graphc.Tensor]
) -> graphc.Tensor:
    """The next state (..., 2), of a state (..., 2) and a torque (..., 1).

    The network adds to the velocity's part of the step: features of a turning angle are its sine
    and cosine.
    """
    angle, velocity = state[..., :1], state[..., 1:]
    h = graphc.concat(
        [graphc.sin(angle), graphc.cos(angle), velocity / 9, torque / TORQUE], axis=-1
    )
    for w, b in zip(weights[:-2:2], weights[1:-2:2]):
        h = graphc.tanh(h @ w + b)
    change = h @ weights[-2] + weights[-1]
    drift = graphc.concat([velocity * STEP, graphc.zeros_like(velocity)], axis=-1)
    return state + drift + change * np.array([STEP / 2, 1.0])


def fit(steps: int, rng: np.random.Generator) -> tuple[list[Array], float]:
    """The weights, and the root mean square error of the next velocity on new samples (rad/s)."""
    state = graphc.placeholder(("batch", 2), "float64", name="state")
    torque = graphc.placeholder(("batch", 1), "float64", name="torque")
    after = graphc.placeholder(("batch", 2), "float64", name="after")
    rate = graphc.placeholder((), "float64", name="rate")
    weights = [graphc.variable(value, name=f"w{k}") for k, value in enumerate(initial_weights(rng))]
    error = (model(state, torque, weights) - after) / np.array([STEP / 2, 1.0])
    loss = graphc.mean(error * error)
    updates = graphc.optimizers.adam(weights, graphc.grad(loss, weights), learning_rate=rate)
    states, torques, afters = samples(20_000, rng)
    with graphc.Session() as session:
        step = session.function([state, torque, after, rate], loss, updates=updates)
        for k in range(steps):
            chosen = rng.integers(len(states), size=256)
            falling = 4e-3 * (1 - k / steps) + 1e-5
            step(states[chosen], torques[chosen], afters[chosen], falling)
        states, torques, afters = samples(2_000, rng)
        found = session.run(model(state, torque, weights), {state: states, torque: torques})
        wrong = float(np.sqrt(np.mean((found - afters)[:, 1] ** 2)))
        return [session.value(w) for w in weights], wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("build"), help="folder (default: build)")
    parser.add_argument("--steps", type=int, default=6000, help="of the fit (default: 6000)")
    parser.add_argument("--target", default="host", help="of graphc.compile (default: host)")
    options = parser.parse_args()

    values, wrong = fit(options.steps, np.random.default_rng(0))
    print(f"root mean square error of the next velocity: {wrong:.5f} rad/s")
    weights = [graphc.variable(value, name=f"w{k}") for k, value in enumerate(values)]
    state = graphc.placeholder((2,), "float64", name="state")
    torque = graphc.placeholder((1,), "float64", name="torque")
    after = model(state, torque, weights)
    by_state, by_torque = graphc.jacobian(after, [state, torque])
    outputs = {"next": after, "by_state": by_state, "by_torque": by_torque}
    graph = graphc.Graph([state, torque], outputs, name="pendulum")
    made = graphc.compile(graph, options.out / "pendulum", target=options.target)
    print(f"{made.library}: {made.library.stat().st_size} bytes, for {', '.join(made.targets)}")


if __name__ == "__main__":
    main()
