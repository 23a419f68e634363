"""Random numbers (floor 8): functions of a key, the same on every device, for every number of
threads and in every version of the compiler's choices.

A key is a uint32 tensor of shape (2,), made by `key(seed)`. The same key always gives the same
numbers: draw once per key, and make new ones with `split` or `fold_in`. The generator is
Threefry-2x32 with 20 rounds (Salmon et al., 2011): element i of a draw is a function of the key and
of i alone, its row-major position. A draw for a whole batch is thus not the draws of its parts one
after another; where examples must keep their numbers however a batch is split, give each its own
key:

    keys = graphc.random.fold_in(key, example_numbers)      # (n, 2): one key per example
    noise = graphc.random.normal(keys, (features,))         # (n, features)

Every function takes such an array of keys, of shape (*batch, 2): each draws `shape`, and the result
has the shape (*batch, *shape).
"""

from __future__ import annotations

from graphc.random.continuous import (
    exponential,
    gumbel,
    laplace,
    normal,
    truncated_normal,
    uniform,
)
from graphc.random.discrete import bernoulli, categorical, choice, permutation, randint
from graphc.random.gamma_family import beta, dirichlet, gamma
from graphc.random.keys import bits, fold_in, key, split

__all__ = [
    "bernoulli",
    "beta",
    "bits",
    "categorical",
    "choice",
    "dirichlet",
    "exponential",
    "fold_in",
    "gamma",
    "gumbel",
    "key",
    "laplace",
    "normal",
    "permutation",
    "randint",
    "split",
    "truncated_normal",
    "uniform",
]
