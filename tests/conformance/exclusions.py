"""What the conformance tests leave out, each with its reason."""

from __future__ import annotations

# Ops that have no value of their own to compare.
NO_VALUE = {
    "placeholder": "its value is fed",
    "variable": "its value is state; tests/runtime holds it",
    "constant": "its value is an attribute; it appears in the graphs of gradients and rules",
    "stop_gradient": "an alias of its operand; tested with differentiation",
    "with_gradient": "an alias of its operand; tested with differentiation",
    "call": "its attribute is a graph; tests/control holds it",
    "cond": "its attributes are graphs; tests/control holds it",
    "while_loop": "its attributes are graphs; tests/control holds it",
    "scan": "its attribute is a graph; tests/control holds it",
    "get": "a result of one of these; tests/control holds it",
    "barrier": "an alias of its operand; tested with rewriting",
}

# Ops whose large inputs are positive.
POSITIVE_ONLY = {
    "lgamma": "left of zero it is a difference with poles; tests/backend measures it there",
    "digamma": "left of zero it is a difference with poles; tests/backend measures it there",
    "polygamma": "left of zero it is a difference with poles",
}

# Ops that NumPy refuses for empty operands.
NOT_EMPTY = {
    "argmax": "no element of nothing is the largest",
    "argmin": "no element of nothing is the smallest",
}

# Ops whose derivative jumps where elements are equal: cases with equal elements are left out.
JUMPS = {"max", "min", "sort", "cumulative_max", "cumulative_min", "maximum", "minimum"}

# Differentiable ops for which differences say nothing, and why.
NO_DIFFERENCES: dict[str, str] = {
    "log_gamma_sample": "its gradient is that of a quantile; tests/random holds it",
}
