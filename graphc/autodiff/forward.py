"""Forward mode and matrices (floor 3): `jvp`, `jacobian`, `hessian`.

A vector-Jacobian product is linear in its cotangent, so the Jacobian-vector product is the
vector-Jacobian
product of that linear function: no op declares a forward rule.  A Jacobian is one vector-Jacobian
product that is vectorized over the rows of a basis (`batching.py`), so its graph does not grow with
the number of rows.
"""

from __future__ import annotations

from typing import Any

from graphc.autodiff.batching import vectorize
from graphc.autodiff.nest import flatten
from graphc.autodiff.reverse import cotangents, grad, paired, require_scalar, zeros_like_type
from graphc.autodiff.substitution import ordered, substitute
from graphc.base.errors import DTypeError
from graphc.ir.node import Node, Tensor
from graphc.ir.opdef import fail
from graphc.ops.promotion import as_tensor
from graphc.ops.reshape import reshape
from graphc.ops.state import placeholder
from graphc.ops.view import EMBED_DIAGONAL, broadcast_to


def jvp(outputs: Any, wrt: Any, tangents: Any, *, allow_unused: bool = False) -> Any:
    """The Jacobian-vector product: tangents of `outputs` given tangents of `wrt`, in the structure
    of `outputs`.

    wrt, tangents: nests of the same structure, each tangent of its tensor's shape and dtype. Raises
    GraphError as `grad`.
    """
    out_leaves, rebuild = flatten(outputs, "jvp: outputs")
    leaves, _ = flatten(wrt, "jvp: wrt")
    given = paired("jvp", "tangent", leaves, tangents)
    dummies = [placeholder(o.shape, o.dtype) for o in out_leaves]
    pulled = cotangents("jvp", out_leaves, dummies, leaves, allow_unused=allow_unused)
    found = cotangents("jvp", pulled, given, dummies, allow_unused=True)
    return rebuild(iter(_without(found, dummies)))


def _without(results: list[Tensor], dummies: list[Tensor]) -> list[Tensor]:
    """The results with the dummy cotangents gone: the value does not depend on them, so zeros will
    do.
    """
    ids = {id(d) for d in dummies}
    if not any(id(n) in ids for n in ordered(results)):
        return results
    mapping: dict[int, Node] = {id(d): zeros_like_type(d) for d in dummies}
    return substitute(results, mapping)


def jacobian(outputs: Any, wrt: Any, *, allow_unused: bool = False) -> Any:
    """All partial derivatives: for an output of shape S and a tensor of shape T, an array of shape
    S + T.

    Returns the structure of `outputs`, with the structure of `wrt` in place of each tensor. Raises
    GraphError as `grad`.
    """
    out_leaves, rebuild_outputs = flatten(outputs, "jacobian: outputs")
    leaves, rebuild = flatten(wrt, "jacobian: wrt")
    rows = []
    for output in out_leaves:
        found = _one_jacobian(output, leaves, allow_unused)
        rows.append(rebuild(iter(found)))
    return rebuild_outputs(iter(rows))


def _one_jacobian(output: Tensor, wrt: list[Tensor], allow_unused: bool) -> list[Tensor]:
    if not output.dtype.is_float:
        fail(DTypeError, f"jacobian: outputs must have a float dtype, got {output.type}", (output,))
    basis_vector = placeholder(output.shape, output.dtype)
    pulled = cotangents("jacobian", [output], [basis_vector], wrt, allow_unused=allow_unused)
    count = output.size
    ones = broadcast_to(as_tensor(1.0, like=output), (count,))
    eye = EMBED_DIAGONAL(ones, axes=(0, 1), offset=0, sizes=(count, count))
    basis = reshape(eye, (count, *output.shape))
    rows = vectorize(pulled, basis_vector, basis)
    return [reshape(r, (*output.shape, *w.shape)) for r, w in zip(rows, wrt, strict=True)]


def hessian(cost: Tensor, wrt: Any) -> Any:
    """The second derivatives of a scalar: for one tensor of shape T an array of shape T + T.

    For a nest: the structure of `wrt` within the structure of `wrt`; entry [a][b] has shape a.shape
    + b.shape.
    """
    require_scalar("hessian", cost)
    return jacobian(grad(cost, wrt), wrt, allow_unused=True)
