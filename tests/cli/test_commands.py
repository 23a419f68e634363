"""Every command on good and on bad input: what it prints, where, and its exit code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import graphc
from graphc.compiler import STAGES
from graphc_cli import parser as grammar
from tests.cli.running import ROOT, SMALL, bad, cli, good


def test_run(models: Path) -> None:
    printed = good(
        "run", "small.g", "--feed", "x=x.npy", "--feed", "t=[0,2,1,0,2]", "--output", "y=y.npy",
        "--updates-to", "next.g", "--json", folder=models,
    )  # fmt: skip
    report = json.loads(printed)
    x = np.load(models / "x.npy")
    graph = graphc.parse(SMALL)
    expected = graph.evaluate({"x": x, "t": np.array([0, 2, 1, 0, 2])})
    np.testing.assert_allclose(np.load(models / "y.npy"), expected["y"], rtol=1e-5, atol=1e-5)
    assert report["dims"] == {"n": 5}
    assert [row["name"] for row in report["outputs"]] == ["y", "picked"]
    assert report["outputs"][0]["shape"] == [5, 3]
    np.testing.assert_allclose(report["inputs"][0]["max"], x.max())
    after = graphc.parse((models / "next.g").read_text())
    assert np.array_equal(after["w"].attr("value").values, 0.5 * graph["w"].attr("value").values)
    assert [v.attr("name") or after.name_of(v) for v, _ in after.updates] == ["w"]


def test_run_makes_inputs_that_fit(models: Path) -> None:
    text = good("run", "small.g", "--random", "--dim", "n=7", "--seed", "3", folder=models)
    assert "dims: n=7" in text and "random, seed 3" in text
    archive = json.loads(good("run", "small.g", "--feed", "both.npz", "--json", folder=models))
    assert archive["dims"] == {"n": 2}
    named = good("run", "small.g", "--feed", "x=both.npz:x", "--random", "--json", folder=models)
    assert json.loads(named)["inputs"][1]["shape"] == [2]


def test_a_graph_on_stdout_is_alone_there(models: Path) -> None:
    done = cli("run", "small.g", "--random", "--updates-to", "-", folder=models)
    assert done.returncode == 0 and "outputs:" in done.stderr
    assert [name for name, _ in graphc.parse(done.stdout).outputs] == ["y", "picked"]


def test_run_says_what_is_wrong(models: Path) -> None:
    def fails(*arguments: str, says: str) -> None:
        bad("run", "small.g", *arguments, folder=models, says=says)

    fails(says="no value for input 'x', 't'")
    fails("--feed", "z=1", "--random", says="the graph has no input 'z'")
    fails("--feed", "x=nothing.npy", "--random", says="nothing.npy: No such file")
    fails("--feed", "x=small.g", "--random", says="small.g: expected an array")
    fails("--feed", "x=object.npy", "--random", says="object.npy: expected an array")
    fails("--feed", "x=wide.npy", "--random", says="got dtype float64")
    fails("--feed", "x=x.npy", "--dim", "n=6", "--random", says="n = 6 from --dim n")
    fails("--dim", "n=65", "--random", says="within the bounds of 'n'")
    fails("--dim", "m=1", "--random", says="no symbolic dim 'm'")
    fails("--random", "--output", "q=q.npy", says="no output 'q'")
    fails("--random", "--output", "y=nowhere/y.npy", says="no such folder")
    fails("--feed", "t=[9]", "--random", says="gather")
    assert not (models / "q.npy").exists()


def test_models_that_are_none(models: Path) -> None:
    bad("inspect", "missing.g", folder=models, says="missing.g: No such file")
    bad("inspect", ".", folder=models, says="Is a directory")
    bad("inspect", "binary.graphc", folder=models, says="an ONNX file or a text graph")
    bad("inspect", "model.onnx", folder=models, says="it has no graph or names no opset")
    bad("inspect", "-", folder=models, stdin=b"graph \0", says="NUL byte")
    text = bad("inspect", "broken.g", folder=models, says="broken.g: line 8, column 8")
    assert "exp" in text and "running.py" not in text and "graphc_cli" not in text


def test_inspect(models: Path) -> None:
    facts = json.loads(good("inspect", "small.g", "--json", folder=models))
    assert facts["nodes"] == 9 and facts["ops"]["einsum"] == 1
    assert facts["variables"]["parameters"] == 12 and facts["variables"]["bytes"] == 48
    assert facts["variables"]["updated"] == 1
    assert facts["dims"] == [{"name": "n", "min": 1, "max": 64, "multiple_of": 1}]
    assert facts["constant_bytes"] == 4
    fixed = json.loads(good("inspect", "-", "--dim", "n=2", "--json", folder=models, stdin=SMALL))
    assert isinstance(fixed["flops"], int) and isinstance(fixed["bytes_moved"], int)
    assert "n" in facts["flops"]
    sizes = {"n": 2}
    assert eval(facts["flops"], sizes) == fixed["flops"]  # the expression means the number
    text = good("inspect", "small.g", folder=models)
    assert "12 parameters" in text and "[n, 4]" in text


def test_explain(models: Path) -> None:
    regions = good("explain", "small.g", folder=models)
    assert "region einsum_exp_log (contraction" in regions and "gather" in regions
    part = good("explain", "small.g", "--kernel", "einsum_exp_log", folder=models)
    assert part.startswith("region einsum_exp_log") and "gather" not in part
    for stage, word in (("loops", "kernel "), ("llvm", "define "), ("assembly", ".Lfunc_end")):
        text = good(
            "explain", "small.g", "--stage", stage, "--kernel", "einsum_exp_log", folder=models
        )
        assert "einsum_exp_log" in text.splitlines()[0] and word in text and text.count("\n") > 5
    facts = json.loads(good("explain", "small.g", "--stage", "memory", "--json", folder=models))
    assert facts["stage"] == "memory" and facts["text"]
    bad("explain", "small.g", "--kernel", "nix", folder=models, says="there is no region 'nix'")
    bad("explain", "small.g", "--stage", "memory", "--kernel", "x", folder=models, says="no parts")
    bad("explain", "small.g", "--stage", "x", folder=models, says="invalid choice", code=2)
    assert grammar.STAGES == STAGES


def test_opt(models: Path) -> None:
    text = good("opt", "small.g", "--numerics", "fast", folder=models)
    assert graphc.parse(text) == graphc.parse(SMALL).optimize("fast")
    again = good("opt", "-", "--passes", "canonicalize", folder=models, stdin=text)
    assert graphc.parse(again) == graphc.parse(text)
    done = cli(
        "opt", "small.g", "--numerics", "fast", "--log", "--print-after", "strip-aliases",
        "--passes", "strip-aliases,simplify-algebra{limit_bytes=64}", "-o", "opt.g",
        folder=models,
    )  # fmt: skip
    assert done.returncode == 0 and done.stdout == ""
    assert "log_of_exp" in done.stderr and "# after strip-aliases" in done.stderr
    assert "exp" not in (models / "opt.g").read_text()
    facts = json.loads(good("opt", "small.g", "--numerics", "fast", "--json", folder=models))
    assert [row["rule"] for row in facts["rewrites"]] == ["log_of_exp"]
    passes = good("opt", "--list-passes", folder=models)
    rules = good("opt", "--list-rules", "--json", folder=models)
    assert "fold-constants" in passes and len(json.loads(rules)) > 100
    bad("opt", folder=models, says="MODEL is required", code=2)
    bad("opt", "small.g", "--passes", "canonicalise", folder=models, says="passes: canonicalize")
    bad("opt", "small.g", "--passes", "canonicalize{a=b}", folder=models, says="limit_bytes=0")
    bad("opt", "small.g", "--passes", "x y", folder=models, says="column 1")
    bad("opt", "small.g", "--print-after", "x", folder=models, says="no such pass runs")


def test_bench(models: Path) -> None:
    printed = good(
        "bench", "small.g", "--dim", "n=8", "--threads", "1", "--seconds", "0.05", "--profile",
        "--trace", "trace.json", "--json", folder=models,
    )  # fmt: skip
    facts = json.loads(printed)
    assert facts["dims"] == {"n": 8} and facts["threads"] == 1 and facts["calls"] > 0
    assert 0 < facts["best_seconds"] <= facts["median_seconds"]
    assert len(facts["profile"]) == facts["kernels"]
    events = json.loads((models / "trace.json").read_text())["traceEvents"]
    assert len(events) == facts["kernels"]
    text = good("bench", "small.g", "--seconds", "0.05", folder=models)
    assert "median" in text and "GB/s" in text
    bad("bench", "small.g", "--seconds", "0", folder=models, says="seconds above 0", code=2)


def test_verify(models: Path) -> None:
    printed = good("verify", "small.g", "--numerics", "all", "--json", folder=models)
    facts = json.loads(printed)
    assert facts["failed"] == 0 and facts["samples"] == 7 and not facts["skipped"]
    seen = {(row["mode"], row["result"]) for row in facts["results"]}
    assert len(seen) == 9 and ("fast", "update:w") in seen
    assert "all right" in good("verify", "small.g", "--samples", "1", folder=models)
    bad("verify", "small.g", "--artifact", ".", folder=models, says="no library in")


def test_view(models: Path) -> None:
    good("view", "small.g", folder=models)
    page = (models / "small.html").read_text()
    assert "<svg" in page and "einsum" in page
    assert good("view", "small.g", "--format", "dot", "-o", "-", folder=models).startswith(
        "digraph"
    )
    facts = json.loads(good("view", "small.g", "--format", "json", "-o", "-", folder=models))
    assert [g["id"] for g in facts[0]["graphs"]] == ["declared", "optimized", "kernels"]
    bad("view", "small.g", "-o", "nowhere/x.html", folder=models, says="no such folder")


def test_completion_is_a_script(models: Path) -> None:
    for shell in grammar.SHELLS:
        script = good("completion", shell, folder=models)
        assert "inspect" in script and "check-numerics" in script
    script = good("completion", "bash", folder=models)
    check = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True)
    assert check.returncode == 0, check.stderr


def test_python_m_graphc_is_the_same_command(models: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "graphc", "opt", str(models / "small.g")],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0 and graphc.parse(done.stdout) == graphc.parse(SMALL).optimize()


def test_saved_graphs(models: Path) -> None:
    good("run", "small.g", "--random", "--updates-to", "next.graphc", folder=models)
    facts = json.loads(good("inspect", "next.graphc", "--json", folder=models))
    assert facts["kind"] == "graphc" and facts["nodes"] == 9
    assert {"manifest.json", "graph.txt"} <= {m["name"] for m in facts["members"]}
    assert good("opt", "next.graphc", "--passes", "canonicalize", folder=models)
    whole = (models / "next.graphc").read_bytes()
    (models / "cut.graphc").write_bytes(whole[: len(whole) // 2])
    bad("inspect", "cut.graphc", folder=models, says="graphc inspect: error: cut.graphc: ")


def test_errors_point_at_lines_of_the_text(models: Path) -> None:
    says = "at small.g:10   %p = gather(%w, %t)"
    bad("run", "small.g", "--feed", "t=[9]", "--random", folder=models, says=says)
    log = cli("opt", "small.g", "--numerics", "fast", "--log", folder=models).stderr
    assert "small.g:9" in log.splitlines()[0]
    profile = good("bench", "small.g", "--seconds", "0.01", "--profile", folder=models)
    assert "small.g:7" in profile


def test_compile(models: Path) -> None:
    facts = json.loads(good("compile", "small.g", "-o", "library", "--json", folder=models))
    assert all((models / name).exists() for name in facts["files"])
    assert facts["interface"]["name"] == "small"
    text = good("compile", "small.g", "-o", "text", "--emit", "llvm", "--name", "n", folder=models)
    assert text.splitlines()[0].split()[0].startswith("text/n.")
    bad("compile", "small.g", "-o", "x", "--target", "pdp11", folder=models, says="'pdp11'")
    bad("compile", "small.g", "-o", "x", "--max-size", "9", folder=models, says="max_size=9")
    bad("compile", "small.g", "-o", "x", "--emit", "tar", folder=models, says="tar", code=2)
    report = good("verify", "small.g", "--artifact", "library", "--samples", "1", folder=models)
    assert "all right" in report


def test_verify_of_a_library_that_stops_at_nan(models: Path) -> None:
    x = graphc.placeholder(("n",), name="x")
    graph = graphc.Graph([x], {"y": graphc.log(x)}, name="stops")
    graph.save(models / "stops.graphc")
    graphc.compile(graph, models / "stops", target="native", check_numerics=True)
    arguments = ("verify", "stops.graphc", "--artifact", "stops", "--samples", "1")
    report = good(*arguments, folder=models)
    assert "stopped at a NaN or an infinity" in report and "all right" in report


def test_export(models: Path) -> None:
    pytest.importorskip("onnx", reason="the package onnx is not installed")
    bad("export", "small.g", "-o", "small.onnx", folder=models, says="updates variables")
    assert not (models / "small.onnx").exists()
    bad("export", "small.g", folder=models, says="-o/--out", code=2)
    given = ("export", "small.g", "--without-updates", "-o", "small.onnx")
    bad(*given, "--opset", "3", folder=models, says="opset must be from 18")
    assert "opset 21, 1 variables" in good(*given, folder=models)
    facts = json.loads(good(*given, "--opset", "20", "--json", folder=models))
    assert facts["opset"] == 20 and facts["bytes"] == (models / "small.onnx").stat().st_size
    fed = ("--feed", "x=x.npy", "--feed", "t=[0,1,2,0,1]")
    tables = [good("run", name, *fed, folder=models) for name in ("small.g", "small.onnx")]
    rows = [[line for line in t.splitlines() if line.startswith("  y")] for t in tables]
    assert rows[0] == rows[1] != []
