"""Fit a curve to real data with Newton's method: the Hessian comes from differentiating twice.

569 tumours (scikit-learn's copy of the Wisconsin breast cancer data) were measured and diagnosed.
The curve is the probability that a tumour of a given radius is malignant: the logistic function
of a polynomial in the radius. Newton's method needs the gradient and the Hessian of the
likelihood; both are one call each, and the number of correct digits doubles at every step.

    python examples/fit_curve.py --degree 3
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from sklearn.datasets import load_breast_cancer

import graphc

matplotlib.use("Agg")
import matplotlib.pyplot as plt

Array = np.ndarray[Any, Any]


def load() -> tuple[Array, Array]:
    """Mean radius (569,) in millimetres, and 1 where the tumour was malignant."""
    data = load_breast_cancer()
    return data.data[:, 0], 1.0 - data.target


def polynomial(x: graphc.Tensor, coefficients: graphc.Tensor, degree: int) -> graphc.Tensor:
    """Horner's scheme, (n,) and (degree + 1,) -> (n,)"""
    value = coefficients[degree]
    for k in reversed(range(degree)):
        value = value * x + coefficients[k]
    return value


def build(degree: int) -> dict[str, Any]:
    """Inputs, and what Newton's method asks for: cost, gradient, Hessian; and the curve."""
    x = graphc.placeholder(("n",), "float64", name="x")
    y = graphc.placeholder(("n",), "float64", name="y")
    c = graphc.placeholder((degree + 1,), "float64", name="coefficients")
    logits = polynomial(x, c, degree)
    cost = graphc.mean(graphc.nn.binary_cross_entropy_with_logits(logits, y)).named("cost")
    wanted = {"cost": cost, "gradient": graphc.grad(cost, c), "hessian": graphc.hessian(cost, c)}
    return {
        "inputs": [c, x, y],
        "wanted": wanted,
        "curve": graphc.nn.sigmoid(logits),
        "x": x,
        "c": c,
    }


def newton(function: graphc.Function, x: Array, y: Array, degree: int) -> tuple[Array, float]:
    """The coefficients with the smallest cost, and the length of the gradient there."""
    coefficients = np.zeros(degree + 1)
    print(f"{'step':>4}{'cost':>20}{'|gradient|':>14}")
    length = np.inf
    for step in range(30):
        now = function(coefficients, x, y)
        length = float(np.linalg.norm(now["gradient"]))
        print(f"{step:4}{now['cost']:20.15f}{length:14.2e}")
        if length < 1e-13:
            break
        coefficients = coefficients - np.linalg.solve(now["hessian"], now["gradient"])
    return coefficients, length


def plot(x: Array, y: Array, at: Array, curve: Array, path: Path) -> None:
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    jitter = np.random.default_rng(0).uniform(-0.03, 0.03, len(y))
    axes.plot(x, y + jitter, ".", markersize=3, alpha=0.5, label="tumours (1: malignant)")
    axes.plot(at, curve, label="fitted probability")
    axes.set(xlabel="mean radius of the cells' nuclei", ylabel="malignant", title="Newton's fit")
    axes.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--degree", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path("out/fit_curve"))
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)

    radius, malignant = load()
    mean, spread = radius.mean(), radius.std()
    x = (radius - mean) / spread
    net = build(options.degree)
    with graphc.Session() as session:
        function = session.function(net["inputs"], net["wanted"])
        coefficients, length = newton(function, x, malignant, options.degree)
        at = np.linspace(x.min(), x.max(), 400)
        curve = session.run(net["curve"], {net["x"]: at, net["c"]: coefficients})

    plot(radius, malignant, at * spread + mean, curve, options.output / "curve.png")
    half = float(np.interp(0.5, curve, at * spread + mean))
    print(f"coefficients: {np.array2string(coefficients, precision=6)}")
    print(f"half of the tumours with a radius of {half:.2f} are malignant")
    print(f"wrote {options.output / 'curve.png'}")
    return 0 if length < 1e-12 else 1


if __name__ == "__main__":
    sys.exit(main())
