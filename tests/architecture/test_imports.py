"""What may be imported where: lazily, from outside, and by `import graphc` itself."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib

from tests.architecture.source_tree import ROOT, everything, imports, library

# Distributions' import names that the library may import at all.
CORE = {"numpy", "llvmlite", "networkx", "safetensors"}
OPTIONAL = {"PIL", "ml_dtypes", "onnx", "pycuda", "tqdm"}
# Slow to load (0.5 s, 0.06 s) or not always there: never loaded by `import graphc`.
LAZY = {"llvmlite", "networkx", *OPTIONAL}
# Of graphc: what cached programs do not need.
LATE = tuple(f"graphc.{n}" for n in "compiler kernels lower loops schedule rewrite passes".split())
# Functions that hold an import statement, with the reason. Shrinking only.
FUNCTION_IMPORTS: dict[str, str] = {}
# Modules that call import_module with a computed name, with the reason.
COMPUTED_IMPORTS: dict[str, str] = {
    "graphc": "public names whose modules are loaded when first used",
}
# A budget: first import in a new process, best of some, in processor time, which neighbours on a
# busy machine do not change. NumPy's own import is part of it.
IMPORT_SECONDS = 0.25

PROBE = """
import json, sys, threading, time, os
begin = time.process_time()
import graphc
seconds = time.process_time() - begin
tasks = "/proc/self/task"
threads = len(os.listdir(tasks)) if os.path.isdir(tasks) else threading.active_count()
print(json.dumps({"seconds": seconds, "threads": threads, "modules": sorted(sys.modules)}))
"""
BARE = PROBE.replace("import graphc", "import numpy")


def probe(code: str = PROBE) -> dict[str, object]:
    # One BLAS thread: NumPy's own pool is not ours to count.
    environment = {"OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    result: dict[str, object] = json.loads(done.stdout)
    return result


def test_no_imports_inside_functions() -> None:
    found = {
        f"{i.module.name}:{i.inside}": str(i)
        for m in everything()
        for i in imports(m)
        if i.inside and not i.lazy
    }
    wrong = [text for key, text in found.items() if key not in FUNCTION_IMPORTS]
    assert not wrong, "imports inside functions:\n" + "\n".join(wrong)
    stale = sorted(set(FUNCTION_IMPORTS) - set(found))
    assert not stale, f"no longer needed in the list: {stale}"


def test_lazy_imports_name_a_module_that_exists() -> None:
    outside = CORE | OPTIONAL | sys.stdlib_module_names
    wrong = []
    for module in library().values():
        for i in imports(module):
            if not i.lazy:
                continue
            if i.target == "<computed>":
                if module.name not in COMPUTED_IMPORTS:
                    wrong.append(f"{i}: computed")
            elif i.target.split(".")[0] not in outside and i.target not in library():
                wrong.append(str(i))
    assert not wrong, "\n".join(wrong)


def test_the_library_imports_only_what_it_declares() -> None:
    allowed = {*sys.stdlib_module_names, *CORE, *OPTIONAL, "graphc", "graphc_cli"}
    wrong = [
        str(i)
        for m in library().values()
        for i in imports(m)
        if i.target != "<computed>" and i.target.split(".")[0] not in allowed
    ]
    assert not wrong, "\n".join(wrong)


def test_the_core_dependencies_are_four() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {d.split(">")[0] for d in project["dependencies"]}
    assert names == CORE


def test_nobody_imports_kernels_by_its_folder() -> None:
    wrong = [
        str(i) for m in everything() for i in imports(m) if i.target.split(".")[0] == "kernels"
    ]
    assert not wrong, "write graphc.kernels:\n" + "\n".join(wrong)


def test_import_loads_nothing_slow_and_starts_no_thread() -> None:
    seen = probe()
    assert isinstance(seen["modules"], list)
    loaded = {str(name).split(".")[0] for name in seen["modules"]} & LAZY
    assert not loaded, f"import graphc loads {sorted(loaded)}"
    late = [name for name in seen["modules"] if str(name).startswith(LATE)]
    assert not late, f"import graphc loads {late}"
    assert seen["threads"] == probe(BARE)["threads"] == 1


def test_import_is_quick() -> None:
    """The best of several processes; stops early."""
    best = float("inf")
    for _ in range(8):
        best = min(best, float(str(probe()["seconds"])))
        if best <= IMPORT_SECONDS:
            return
    raise AssertionError(
        f"import graphc takes {best:.3f} s at best, at most {IMPORT_SECONDS} s allowed"
    )
