"""`graphc run`: run a graph on given or random inputs (the command line, floor 8)."""

from __future__ import annotations

import argparse
import contextlib
import sys
from typing import Any

import numpy as np

from graphc.base.atomic_file import replacing
from graphc.base.dtypes import Array, DType
from graphc.base.errors import GraphError, message
from graphc.cli.inputs import Inputs, gather
from graphc.cli.model import check_folder, compiled, load, save, with_values
from graphc.cli.table import json_text, table
from graphc.ir.graph import Graph
from graphc.runtime.session import Session


def execute(options: argparse.Namespace) -> int:
    """Run the model, print a table of inputs and outputs, write what is asked for; 0."""
    model = load(options.model)
    graph = model.graph
    wanted = _outputs(graph, options.output)
    for path in (*wanted.values(), options.updates_to):
        check_folder(path)
    inputs = gather(graph, options.feed, options.dim, random=options.random, seed=options.seed)
    with Session(
        threads=options.threads,
        numerics=options.numerics,
        check_numerics=options.check_numerics,
    ) as session:
        results: dict[str, Array] = compiled(session, graph)(*inputs.arrays.values())
        state = {id(v): session.value(v) for v in graph.variables}
    for name, path in wanted.items():
        write_array(path, results[name])
    if options.updates_to:
        save(with_values(graph, state), options.updates_to)
    # A graph on stdout leaves no place there for the tables.
    with contextlib.redirect_stdout(sys.stderr if options.updates_to == "-" else sys.stdout):
        _report(graph, inputs, results, wanted, options)
    return 0


def _report(
    graph: Graph,
    inputs: Inputs,
    results: dict[str, Array],
    files: dict[str, str],
    options: argparse.Namespace,
) -> None:
    fed, computed = dict(graph.inputs), dict(graph.outputs)
    rows = {
        "inputs": [
            summary(name, array, fed[name].dtype) | {"from": inputs.origins[name]}
            for name, array in inputs.arrays.items()
        ],
        "outputs": [
            summary(name, array, computed[name].dtype) | {"file": files.get(name)}
            for name, array in results.items()
        ],
    }
    if options.json:
        print(json_text(rows | {"dims": inputs.sizes}))
        return
    if inputs.sizes:
        print("dims: " + ", ".join(f"{name}={size}" for name, size in inputs.sizes.items()))
    for title, listed in rows.items():
        print(f"{title}:" + ("" if listed else " none"))
        if listed:
            print(table(listed))
    if options.updates_to:
        print(f"{len(graph.updates)} updated variables, in {options.updates_to}")


def _outputs(graph: Graph, assignments: list[tuple[str, str]]) -> dict[str, str]:
    names = [name for name, _ in graph.outputs]
    for name, _ in assignments:
        if name not in names:
            what = f"--output {name}=…: the graph has no output {name!r}"
            raise GraphError(message(what, at="", hint=f"its outputs: {', '.join(names)}"))
    return dict(assignments)


def summary(name: str, array: Array, dtype: DType) -> dict[str, Any]:
    """A row about an array: dtype, shape, smallest, largest and mean value, count of NaN.

    NaN is left out of smallest, largest and mean; None where nothing is left.
    """
    values = np.asarray(array)
    if values.dtype.kind not in "biuf":
        values = values.astype(np.float32)  # bfloat16
    nan = int(np.isnan(values).sum()) if values.dtype.kind == "f" else 0
    kept = values[~np.isnan(values)] if nan else values
    low: Any = None
    high: Any = None
    mean: Any = None
    if kept.size:
        low, high = kept.min().item(), kept.max().item()
        with np.errstate(all="ignore"):
            mean = float(np.mean(kept, dtype=np.float64))
    shape = list(values.shape)
    return {
        "name": name,
        "dtype": dtype.name,
        "shape": shape,
        "min": low,
        "max": high,
        "mean": mean,
        "nan": nan,
    }


def write_array(path: str, array: Array) -> None:
    """Write a .npy file that appears whole or not at all; bfloat16 as float32, exactly."""
    values = np.asarray(array)
    if values.dtype.kind not in "biuf":
        values = values.astype(np.float32)
    with replacing(path) as file:
        np.lib.format.write_array(file, np.ascontiguousarray(values), allow_pickle=False)
