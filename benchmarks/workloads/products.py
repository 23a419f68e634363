"""Matrix products: squares with a constant right-hand operand, a fused layer, a batch."""

from __future__ import annotations

from benchmarks.workloads.workload import Data, Workload, normal, weight


def matmul(rows: int, inner: int, columns: int, rate: float | None = None) -> Workload:
    """x (rows, inner) times a weight (inner, columns). rate: GFLOP/s that are the aim."""
    flops = 2.0 * rows * inner * columns
    square = rows == inner == columns
    return Workload(
        f"matmul {rows}" if square else f"matmul {rows}×{inner}×{columns}",
        "products",
        lambda: Data((normal(rows, inner),), {"w": weight(inner, columns)}),
        lambda ns, x, w: x[0] @ w["w"],
        flops=flops,
        moved=4.0 * (rows * inner + inner * columns + rows * columns),
        aim=None if rate is None else flops / (rate * 1e9),
    )


def dense_gelu(rows: int, inner: int, columns: int, aim: float | None = None) -> Workload:
    """gelu(x @ w + b), gelu in its exact form."""
    return Workload(
        f"matmul + bias + gelu {rows}×{inner}×{columns}",
        "products",
        lambda: Data((normal(rows, inner),), {"w": weight(inner, columns), "b": normal(columns)}),
        lambda ns, x, w: ns.gelu(ns.linear(x[0], w["w"], w["b"])),
        flops=2.0 * rows * inner * columns,
        moved=4.0 * (rows * inner + inner * columns + rows * columns),
        aim=aim,
    )


def batched(batch: int, rows: int, inner: int, columns: int, aim: float | None = None) -> Workload:
    """x (batch, rows, inner) times y (batch, inner, columns)."""
    return Workload(
        f"matmul {batch}×({rows}×{inner}×{columns})",
        "products",
        lambda: Data((normal(batch, rows, inner), normal(batch, inner, columns))),
        lambda ns, x, w: x[0] @ x[1],
        flops=2.0 * batch * rows * inner * columns,
        moved=4.0 * batch * (rows * inner + inner * columns + rows * columns),
        aim=aim,
    )


def workloads(*, tiny: bool = False) -> list[Workload]:
    """The rows of the table, or the same at sizes that a test can afford."""
    if tiny:
        return [matmul(17, 19, 23), dense_gelu(5, 33, 18), batched(3, 5, 7, 11)]
    squares = {256: 215.0, 512: 222.0, 1024: 222.0, 2048: 218.0}
    return [
        *(matmul(n, n, n, rate) for n, rate in squares.items()),
        dense_gelu(512, 1024, 1024, aim=4.9e-3),
        batched(64, 128, 64, 128, aim=0.62e-3),
    ]
