"""Floor 3: differentiation, graph to graph: reverse and forward mode, any order, custom gradients.

Everything derives from the `gradient` of each op definition (floor 2); the results are ordinary
graphs.
"""

from __future__ import annotations

from graphc.autodiff import batching_control as batching_control
from graphc.autodiff import control as control
from graphc.autodiff.custom import checkpoint, custom_gradient, stop_gradient
from graphc.autodiff.forward import hessian, jacobian, jvp
from graphc.autodiff.reverse import grad, vjp

__all__ = [
    "checkpoint",
    "custom_gradient",
    "grad",
    "hessian",
    "jacobian",
    "jvp",
    "stop_gradient",
    "vjp",
]
