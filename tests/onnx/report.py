"""Counts of ONNX's backend tests: `python -m tests.onnx.report [GROUP …]`.

Prints per group how many pass, fail and are left out, beside ONNX Runtime where it is installed,
and the reasons. Results go through the package's own runner and tolerances.
"""

from __future__ import annotations

import collections
import importlib
import importlib.util
import os
import sys
import tempfile
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx.backend.base

import graphc
from graphc.onnx.backend import Backend
from tests.onnx.suite import EXCLUDED, GROUPS, cases_of, is_plain, node_models, reason_of


class _Session(onnx.backend.base.BackendRep):
    def __init__(self, model: Any) -> None:
        runtime = importlib.import_module("onnxruntime")
        options = runtime.SessionOptions()
        options.log_severity_level = 4
        self.session = runtime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def run(self, inputs: Any, **kwargs: Any) -> Any:
        names = [i.name for i in self.session.get_inputs()]
        return tuple(self.session.run(None, dict(zip(names, inputs))))


class OnnxRuntime(onnx.backend.base.Backend):
    """ONNX Runtime as a backend: any model is tried as it is."""

    @classmethod
    def prepare(cls, model: Any, device: str = "CPU", **kwargs: Any) -> Any:
        return _Session(model)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        return device == "CPU"


def outcome(test: Callable[[], None]) -> tuple[str, str]:
    """What became of a test: "passed", "refused" (an error that says so) or "failed"; and why."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            test()
    except (graphc.UnsupportedError, graphc.FormatError) as error:
        return "refused", str(error).partition("\n")[0]
    except Exception as error:  # a report of all tests: none may end it
        return "failed", f"{type(error).__name__}: {str(error).strip()[:200]}"
    return "passed", ""


def results(group: str, backend: Any) -> dict[str, tuple[str, str]]:
    """The outcomes of a group's tests by name."""
    return {name: outcome(test) for name, test in cases_of(group, backend).items()}


def _line(label: str, found: dict[str, tuple[str, str]], names: list[str]) -> str:
    counts = collections.Counter(found[n][0] for n in names)
    left_out = sum(reason_of(n) is not None and found[n][0] != "passed" for n in names)
    return (
        f"{label:28} {len(names):6} {counts['passed']:7} {counts['refused']:8} "
        f"{counts['failed']:7} {left_out:9}"
    )


def report(groups: list[str]) -> int:
    """Print the tables; the number of tests that neither pass nor are excluded."""
    runtime = importlib.util.find_spec("onnxruntime") is not None
    bad: list[str] = []
    for label, backend in [("graphc", Backend), *([("ONNX Runtime", OnnxRuntime)] * runtime)]:
        print(f"\n{label}\n{'':28}  tests  passed  refused  failed  excluded")
        total: dict[str, tuple[str, str]] = {}
        for group in groups:
            found = results(group, backend)
            total |= found
            print(_line(group, found, list(found)), flush=True)
            if group == "node":
                plain = [n for n, m in node_models().items() if is_plain(m)]
                print(_line("  node, usual types", found, plain))
            if label == "graphc":
                kept = {n: o for n, o in found.items() if reason_of(n) is None}
                bad += [f"{n}: {o[0]}: {o[1]}" for n, o in kept.items() if o[0] != "passed"]
                wrong = [n for n, o in found.items() if o[0] == "failed" and reason_of(n) is None]
                print(f"{'':28} wrong values or other errors: {len(wrong)}")
        print(_line("all", total, list(total)))
    print("\nexcluded, with reasons")
    names = [n for group in groups for n in cases_of(group)]
    reasons = collections.Counter(r for r in map(reason_of, names) if r)
    for reason in dict.fromkeys(EXCLUDED.values()):
        print(f"{reasons[reason]:6}  {reason}")
    print("\nneither passed nor excluded:", len(bad))
    print("\n".join(bad))
    return len(bad)


if __name__ == "__main__":
    np.seterr(all="ignore")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ONNX_HOME"] = folder  # the runner makes folders there
        sys.exit(1 if report(sys.argv[1:] or list(GROUPS)) else 0)
