"""Limits on what is read (floor 0): how large the parts of a text or a file may be.

A reader checks every count and size against these before it allocates or computes anything, so that
a small file cannot ask for much memory or time.  The defaults are far above what people build.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """What `graphc.parse` and `graphc.load` accept; more is a FormatError naming the field here.

    Raise one for a file of your own: `graphc.load(path, limits=Limits(nodes=5_000_000))`.
    """

    text_bytes: int = 256 << 20
    """Bytes of graph.txt (or of a text that is parsed)."""
    manifest_bytes: int = 1 << 20
    """Bytes of manifest.json."""
    provenance_bytes: int = 256 << 20
    """Bytes of provenance.json."""
    tensor_table_bytes: int = 64 << 20
    """Bytes of the header of weights.safetensors."""
    tensors: int = 1_000_000
    """Tensors in weights.safetensors."""
    nodes: int = 2_000_000
    """Nodes of a graph, those of graphs inside included."""
    operands: int = 65_536
    """Operands of one node."""
    nesting: int = 64
    """Levels of graphs, tuples and parentheses inside each other."""
    name_length: int = 4096
    """Characters of a name, a label, a dim or a string."""
    symbols: int = 4096
    """Symbolic dims of a graph."""
    rank: int = 64
    """Dims of one tensor."""
    tuple_items: int = 1 << 20
    """Values in one tuple of an attribute."""
    literal_elements: int = 1 << 20
    """Elements of a constant written as numbers."""
    inline_bytes: int = 64 << 20
    """Bytes of a constant written as base64."""
    size: int = 1 << 62
    """The absolute value of an integer in a size or an attribute; more does not fit an address."""
    size_terms: int = 256
    """Terms (products) of one symbolic size."""
    size_factors: int = 64
    """Factors of one term of a symbolic size, those inside quotients included."""
