"""The public face: names, docstrings, error classes, and the scalar language's completeness."""

from __future__ import annotations

import ast
import importlib
import inspect
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import graphc
from tests.architecture.source_tree import library
from tests.conftest import Golden

# The names that users' programs are written against; the golden files list all that exist.
PROMISED = """
placeholder Dim variable constant name_scope Tensor grad vjp jvp jacobian hessian stop_gradient
custom_gradient checkpoint Session Function Graph parse load where
nn.relu nn.gelu nn.silu nn.elu nn.sigmoid nn.softplus nn.softmax nn.log_softmax
nn.softmax_cross_entropy nn.binary_cross_entropy_with_logits nn.conv nn.conv_transpose nn.max_pool
nn.avg_pool nn.batch_norm nn.layer_norm nn.rms_norm nn.group_norm nn.dropout nn.embedding nn.one_hot
nn.scaled_dot_product_attention
optimizers.sgd optimizers.momentum optimizers.adagrad optimizers.rmsprop optimizers.adam
optimizers.adamw optimizers.lion optimizers.clip_by_norm optimizers.clip_by_value
testing.check_grad debug.bisect linalg.matmul random.normal cond while_loop scan function
""".split()

# Array API 2024.12: what the issue leaves out is data-dependent in size, complex, or a
# factorization.
ARRAY_API = """
e inf nan newaxis pi
arange asarray empty empty_like eye full full_like linspace meshgrid ones ones_like tril triu zeros
zeros_like
astype broadcast_arrays broadcast_to can_cast finfo iinfo isdtype result_type
abs acos acosh add asin asinh atan atan2 atanh bitwise_and bitwise_left_shift bitwise_invert
bitwise_or bitwise_right_shift bitwise_xor ceil clip copysign cos cosh divide equal exp expm1
floor floor_divide greater greater_equal hypot isfinite isinf isnan less less_equal log log1p log2
log10 logaddexp logical_and logical_not logical_or logical_xor maximum minimum multiply negative
nextafter not_equal positive pow reciprocal remainder round sign signbit sin sinh square sqrt
subtract tan tanh trunc take take_along_axis matmul matrix_transpose tensordot vecdot concat
expand_dims flip moveaxis permute_dims repeat reshape roll squeeze stack tile unstack argmax
argmin count_nonzero searchsorted where argsort sort cumulative_prod cumulative_sum max mean min
prod std sum var all any diff einsum outer trace
""".split()

BUILTIN = {
    "ShapeError": ValueError,
    "DTypeError": TypeError,
    "GraphError": ValueError,
    "VerifyError": RuntimeError,
    "UnsupportedError": NotImplementedError,
    "CompileError": RuntimeError,
    "ExecutionError": RuntimeError,
    "NumericsError": ArithmeticError,
    "FormatError": ValueError,
    "DeviceError": RuntimeError,
}
NAMESPACES = ("", "nn", "optimizers", "linalg", "random", "testing", "debug")
GOLDEN = Path(__file__).parent / "golden"


def find(path: str) -> Any:
    value: Any = graphc
    for part in path.split("."):
        value = getattr(value, part)
    return value


def public(namespace: str) -> list[str]:
    module = find(namespace) if namespace else graphc
    return sorted(module.__all__)


@pytest.mark.parametrize("name", PROMISED + ARRAY_API)
def test_promised_names_exist(name: str) -> None:
    value = find(name)
    assert value is not None or name == "newaxis"
    namespace, _, last = name.rpartition(".")
    assert last in public(namespace), f"{name} is not in __all__"


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_public_names_are_pinned(namespace: str, golden: Golden) -> None:
    golden.check(GOLDEN / f"{namespace or 'graphc'}.txt", "\n".join(public(namespace)) + "\n")


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_public_names_resolve_and_are_listed_by_dir(namespace: str) -> None:
    module = find(namespace) if namespace else graphc
    names = public(namespace)
    assert len(set(names)) == len(names)
    missing = [n for n in names if not hasattr(module, n)]
    assert not missing, f"in __all__ but not there: {missing}"
    assert set(names) <= set(dir(module))


def documented() -> Iterator[tuple[str, Any]]:
    """Every public function and class, and the public methods and properties of the classes."""
    for namespace in NAMESPACES:
        module = find(namespace) if namespace else graphc
        for name in public(namespace):
            value = getattr(module, name)
            label = f"{namespace}.{name}" if namespace else name
            if isinstance(value, type) and value.__module__.startswith("graphc"):
                yield label, value
                for member, inner in vars(value).items():
                    if not member.startswith("_") and (
                        inspect.isfunction(inner) or isinstance(inner, property | classmethod)
                    ):
                        yield f"{label}.{member}", inner
            elif callable(value) and not isinstance(value, types.ModuleType):
                yield label, value


def test_everything_public_is_documented() -> None:
    wrong = [label for label, value in documented() if not inspect.getdoc(value)]
    assert not wrong, f"without a docstring: {wrong}"


def test_public_functions_show_a_signature() -> None:
    wrong = []
    for label, value in documented():
        if callable(value) and not isinstance(value, type):
            signature = inspect.signature(value)
            parameters = list(signature.parameters.values())
            kinds = {p.kind for p in parameters}
            if kinds == {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}:
                wrong.append(label)
    assert not wrong, f"(*args, **kwargs) tells a user nothing: {wrong}"


@pytest.mark.parametrize("name", BUILTIN)
def test_error_classes(name: str) -> None:
    error = getattr(graphc, name)
    assert issubclass(error, graphc.GraphcError)
    assert issubclass(error, BUILTIN[name])
    assert issubclass(graphc.GraphcError, Exception)
    assert name in graphc.__all__
    assert inspect.getdoc(error)


def test_there_are_no_other_error_classes() -> None:
    found = {
        name
        for name in graphc.__all__
        if isinstance(getattr(graphc, name), type)
        and issubclass(getattr(graphc, name), BaseException)
    }
    assert found == {"GraphcError", *BUILTIN}


def test_every_raise_says_something() -> None:
    """No error class of graphc is raised without a message, and nothing is swallowed."""
    wrong = []
    for module in library().values():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Raise) and node.exc is not None:
                bare = isinstance(node.exc, ast.Name) or (
                    isinstance(node.exc, ast.Call) and not node.exc.args and not node.exc.keywords
                )
                named = ast.unparse(node.exc).split("(")[0]
                if bare and named in {"GraphcError", *BUILTIN}:
                    wrong.append(f"{module}:{node.lineno}: {ast.unparse(node)}")
            elif isinstance(node, ast.ExceptHandler):
                broad = node.type is None or ast.unparse(node.type) in (
                    "Exception",
                    "BaseException",
                )
                silent = all(isinstance(s, ast.Pass | ast.Continue) for s in node.body)
                if broad and silent:
                    wrong.append(f"{module}:{node.lineno}: swallows every error")
    assert not wrong, "\n".join(wrong)


def test_every_handler_of_the_scalar_language_has_every_method() -> None:
    """A new scalar primitive touches every handler: the one that was missed is named here."""
    handlers = [
        f"{m.name}.{c.name}"
        for m in library().values()
        for c in ast.walk(m.tree)
        if isinstance(c, ast.ClassDef) and any("ScalarLanguage" in ast.unparse(b) for b in c.bases)
    ]
    assert handlers, "no handler of the scalar language found"
    for name in handlers:
        module, _, last = name.rpartition(".")
        handler = getattr(importlib.import_module(module), last)
        declared_abstract = any(
            getattr(v, "__isabstractmethod__", False) for v in vars(handler).values()
        )
        missing = sorted(handler.__abstractmethods__)
        assert declared_abstract or not missing, f"{name} lacks {missing}"
