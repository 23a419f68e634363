"""Every name of the standard is there with the standard's parameters, or says what to use."""

from __future__ import annotations

import ast
import inspect
from typing import Any

import numpy as np
import pytest

import graphc
from tests.array_api.standard import ABSENT, REFUSED, STANDARD

SIGNATURES = dict(line.split("(", 1) for line in STANDARD.splitlines() if line)


def find(path: str) -> Any:
    value: Any = graphc
    for part in path.split("."):
        value = getattr(value, part)
    return value


@pytest.mark.parametrize("name", sorted(set(SIGNATURES) - set(ABSENT)))
def test_calls_of_the_standard_are_taken(name: str) -> None:
    source = f"def f({SIGNATURES[name]}: pass".replace("=inf", "=None")
    function = ast.parse(source).body[0]
    assert isinstance(function, ast.FunctionDef)
    wanted = function.args
    signature = inspect.signature(find(name))
    positional = len(wanted.posonlyargs) + len(wanted.args)
    by_name = [a.arg for a in (*wanted.args, *wanted.kwonlyargs)]
    defaults = dict(zip([a.arg for a in wanted.kwonlyargs], wanted.kw_defaults, strict=True))
    required = positional - len(wanted.defaults)
    for count in range(required, positional + 1):  # every call by position
        signature.bind(*range(count), **{k: 0 for k, d in defaults.items() if d is None})
    start = len(wanted.posonlyargs)
    if not wanted.vararg and start >= required:  # every parameter by its name
        signature.bind(*range(start), **dict.fromkeys(by_name, 0))
    for key, node in defaults.items():
        if node is not None:
            mine, theirs = signature.parameters[key].default, ast.literal_eval(node)
            assert mine == theirs, f"{name}: {key}={mine!r}, the standard says {theirs!r}"


@pytest.mark.parametrize("name", REFUSED)
def test_refused_names_say_what_to_use(name: str) -> None:
    x = graphc.placeholder((3,), name="x")
    with pytest.raises(graphc.UnsupportedError, match=REFUSED[name]):
        find(name)(x)


@pytest.mark.parametrize("name", ABSENT)
def test_absent_names_say_where_to_go(name: str) -> None:
    with pytest.raises(AttributeError, match=r"numpy\.|complex"):
        find(name)


@pytest.mark.parametrize("name", "zeros ones empty full arange linspace eye asarray".split())
def test_devices_belong_to_sessions(name: str) -> None:
    arguments: dict[str, tuple[Any, ...]] = {"full": ((2,), 1), "linspace": (0, 1, 3)}
    call = arguments.get(name, (2,))
    assert find(name)(*call, device=None) is find(name)(*call)
    with pytest.raises(graphc.UnsupportedError, match=r"graphc\.Session\(device"):
        find(name)(*call, device="cuda")


def test_namespace_info() -> None:
    assert graphc.__array_api_version__ == "2024.12"
    info = graphc.__array_namespace_info__()
    assert info.default_dtypes()["indexing"] is graphc.int64
    assert set(info.dtypes(kind="real floating")) == {"float32", "float64"}
    assert len(info.dtypes()) == 11
    x = graphc.placeholder((3,), name="x")
    assert x.__array_namespace__(api_version="2024.12") is graphc
    assert x.device in info.devices()
    assert info.capabilities()["data-dependent shapes"] is True


def test_dtype_functions_agree_with_numpy() -> None:
    names = "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float32 float64".split()
    for a in names:
        for b in names:
            assert graphc.result_type(a, b).name == np.result_type(a, b).name
        for kind in ("bool", "signed integer", "unsigned integer", "integral", "numeric"):
            assert graphc.isdtype(a, kind) == np.isdtype(np.dtype(a), kind), (a, kind)
    for a in ("float32", "float64"):
        mine, theirs = graphc.finfo(a), np.finfo(a)
        for field in ("bits", "eps", "max", "min", "smallest_normal"):
            assert getattr(mine, field) == getattr(theirs, field)
    for a in ("int8", "uint64"):
        assert (graphc.iinfo(a).max, graphc.iinfo(a).min) == (np.iinfo(a).max, np.iinfo(a).min)
