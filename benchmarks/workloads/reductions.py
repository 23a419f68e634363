"""Reductions and normalizations: read once, a row's result or a row of results."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.workloads.workload import Data, Workload, normal


def _of_rows(
    name: str,
    shape: tuple[int, int],
    compute: Callable[[Any, Any], Any],
    outputs: int,
    aim: float | None,
    flops: float = 1.0,
) -> Workload:
    count = shape[0] * shape[1]
    return Workload(
        f"{name} {shape[0]}×{shape[1]}",
        "reductions",
        lambda: Data((normal(*shape),)),
        lambda ns, x, _: compute(ns, x[0]),
        flops=flops * count,
        moved=4.0 * (count + outputs),
        aim=aim,
    )


def softmax(rows: int, columns: int, aim: float | None = None) -> Workload:
    """softmax along rows."""
    shape = (rows, columns)
    return _of_rows("softmax", shape, lambda ns, x: ns.softmax(x), rows * columns, aim, 15)


def log_sum_exp(rows: int, columns: int, aim: float | None = None) -> Workload:
    """log(sum(exp(x))) of each row."""
    shape = (rows, columns)
    return _of_rows("log-sum-exp", shape, lambda ns, x: ns.logsumexp(x), rows, aim, 15)


def row_sum(rows: int, columns: int, aim: float | None = None) -> Workload:
    """The sum of each row."""
    return _of_rows("row sum", (rows, columns), lambda ns, x: ns.sum(x, 1), rows, aim)


def column_sum(rows: int, columns: int, aim: float | None = None) -> Workload:
    """The sum of each column."""
    return _of_rows("column sum", (rows, columns), lambda ns, x: ns.sum(x, 0), columns, aim)


def layer_norm(rows: int, columns: int, aim: float | None = None) -> Workload:
    """Rows to mean 0 and variance 1, times a scale, plus a bias."""

    def compute(ns: Any, x: Any, w: Mapping[str, Any]) -> Any:
        return ns.layer_norm(x[0], w["scale"], w["bias"])

    def data() -> Data:
        return Data(
            (normal(rows, columns),),
            {"scale": 1 + normal(columns, scale=0.1), "bias": normal(columns, seed=1)},
        )

    return Workload(
        f"layer norm {rows}×{columns}",
        "reductions",
        data,
        compute,
        flops=8.0 * rows * columns,
        moved=8.0 * rows * columns,
        aim=aim,
    )


def workloads(*, tiny: bool = False) -> list[Workload]:
    """The rows of the table, or the same at sizes that a test can afford."""
    if tiny:
        kinds = (softmax, layer_norm, log_sum_exp, row_sum, column_sum)
        return [kind(13, 37) for kind in kinds]
    return [
        softmax(4096, 1024, aim=0.69e-3),
        layer_norm(4096, 1024, aim=0.72e-3),
        log_sum_exp(4096, 1024, aim=0.40e-3),
        row_sum(4096, 4096, aim=0.95e-3),
        column_sum(4096, 4096, aim=1.4e-3),
    ]
