"""Compiled programs in the object cache (floor 8): under which key, and as which bytes.

The key is the digest of everything that machine code depends on: the compiler's sources and the
packages under it, the machine, the options, and the graph without what the code does not depend on
(first values of variables; values of constants count by their digest).  The bytes hold everything
that the declared graph does not: constants that it has are named by their digest, also where a
template wants them in another order, because the weights of a network would fill the cache, and
reading them would take longer than compiling.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
import os
import platform
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from graphc.base.dims import Size
from graphc.base.dtypes import dtype_of
from graphc.ir import provenance
from graphc.ir.constant import ConstantValue, arrange, from_stored
from graphc.ir.digest import graph_digest
from graphc.ir.graph import Graph
from graphc.ir.node import Node
from graphc.ir.parse import parse_size
from graphc.runtime.cache import cache_key
from graphc.runtime.executable import CompileOptions, Site
from graphc.version import __version__

_FORMAT = 6  # of the cached bytes
_NAMED_BYTES = 4096  # constants of the graph from this size on are named, not stored


@dataclass(frozen=True, slots=True)
class Contents:
    """What compiling found about a graph, as an executable needs it.

    object: relocatable code; constants, sites: in the order of their numbers; flops: scalar
    operations with the number of steps of so many; parallel: whether threads share a kernel;
    blocks: of memory that is found while the program runs.
    """

    object: bytes
    constants: tuple[ConstantValue, ...]
    sites: tuple[Site, ...]
    flops: tuple[tuple[Size, int], ...]
    parallel: bool
    blocks: int


def program_key(graph: Graph, options: CompileOptions, schedules: str = "") -> str:
    """The digest of everything that the object depends on. schedules: the digest of those that were
    found by measuring.
    """
    settings = (
        f"{options.device} {options.numerics} {options.check_numerics} "
        f"{options.optimize} {options.fuse}"
    )
    return cache_key(toolchain(), machine(), settings, schedules, graph_digest(graph))


@functools.lru_cache(maxsize=1)
def machine() -> str:
    """What code for this machine depends on, found without LLVM."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        text = platform.processor()
    kept = sorted(
        {
            line
            for line in text.splitlines()
            if line.startswith(("flags", "model name", "Features", "CPU"))
        }
    )
    return platform.machine() + platform.system() + "\n".join(kept)


@functools.lru_cache(maxsize=1)
def toolchain() -> str:
    """The compiler: its version, its sources, and the packages under it."""
    # LLVM's version by its wrapper's file, so that a cached program is found without importing
    # either. NumPy folds constants.
    spec = importlib.util.find_spec("llvmlite")
    wrapper = ""
    if spec is not None and spec.origin is not None:
        status = Path(spec.origin).with_name("_version.py").stat()
        wrapper = f"{status.st_size} {status.st_mtime_ns}"
    folders = [os.path.dirname(os.path.abspath(__file__))]
    if not os.path.isdir(os.path.join(folders[0], "kernels")):
        # Templates lie beside the package in checkouts without links.
        templates = importlib.util.find_spec("graphc.kernels")
        folders += [] if templates is None else templates.submodule_search_locations or []
    stamps = " ".join(map(source_stamp, folders))
    return f"{__version__} {_FORMAT} {wrapper} {np.__version__} {stamps}"


def source_stamp(root: str) -> str:
    """Places, sizes and times of the sources of a package, those behind links of folders included:
    an edited compiler never finds old code.
    """
    found = sorted(_sources(root, root))
    return hashlib.sha256("".join(found).encode()).hexdigest()


def _sources(root: str, folder: str) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(".py"):
                status = entry.stat()
                place = entry.path[len(root) :]
                yield f"{place} {status.st_size} {status.st_mtime_ns};"
            elif entry.name != "__pycache__" and entry.is_dir():
                yield from _sources(root, entry.path)


# -- contents as bytes ----------------------------------------------------------------------------


def pack(graph: Graph, contents: Contents, checked: Sequence[Node]) -> bytes:
    """Contents as bytes, those of the declared graph left out. checked: the node of each site."""
    declared = _values(graph) if contents.constants else {}
    constants: list[dict[str, Any]] = []
    stored: list[bytes] = []
    for c in contents.constants:
        source, steps = (c, ()) if c.digest in declared else c.arranged or (c, ())
        if c.nbytes >= _NAMED_BYTES and source.digest in declared:
            constants.append({"digest": source.digest, "steps": steps})
        else:
            size = c.nbytes
            constants.append({"dtype": c.dtype.name, "shape": list(c.shape), "bytes": size})
            stored.append(c.stored.tobytes())
    header = {
        "sites": _site_records(graph, contents.sites, checked),
        "flops": [[str(flops), count] for flops, count in contents.flops],
        "parallel": contents.parallel,
        "constants": constants,
        "blocks": contents.blocks,
        "object": len(contents.object),
    }
    text = json.dumps(header).encode()
    return b"".join([struct.pack("<Q", len(text)), text, contents.object, *stored])


def unpack(graph: Graph, packed: bytes) -> Contents:
    """The contents that were packed for an equal graph (the cache verified their checksum)."""
    (length,) = struct.unpack_from("<Q", packed)
    header = json.loads(packed[8 : 8 + length])
    start = 8 + length
    code = packed[start : start + header["object"]]
    start += header["object"]
    named = any("digest" in c for c in header["constants"])
    declared = _values(graph) if named else {}
    constants: list[ConstantValue] = []
    for c in header["constants"]:
        if "digest" in c:
            steps = tuple((kind, tuple(numbers)) for kind, numbers in c["steps"])
            source = declared[c["digest"]]
            constants.append(arrange(source, steps) if steps else source)
            continue
        dtype = dtype_of(c["dtype"])
        elements = np.frombuffer(packed[start : start + c["bytes"]], dtype.storage)
        constants.append(from_stored(elements.reshape(c["shape"]), dtype))
        start += c["bytes"]
    nodes = _declared_nodes(graph) if header["sites"] else []
    sites = tuple(
        Site(op, provenance.where(nodes[k]) if k >= 0 else "", hint, kind)
        for op, k, hint, kind in header["sites"]
    )
    symbols = graph.symbols + graph.computed
    flops = tuple((parse_size(text, symbols), count) for text, count in header["flops"])
    return Contents(code, tuple(constants), sites, flops, header["parallel"], header["blocks"])


def _declared_nodes(graph: Graph) -> list[Node]:
    """The nodes of a graph and of its bodies, in an order that its text decides."""
    return [n for part in (graph, *graph.bodies) for n in part.nodes]


def _values(graph: Graph) -> dict[str, ConstantValue]:
    """The constants that a graph and its bodies declare, by digest.

    Not the first values of variables: the key does not say what they are.
    """
    return {
        value.digest: value
        for node in _declared_nodes(graph)
        if node.op.name != "variable"
        for value in node.attrs
        if isinstance(value, ConstantValue)
    }


def _site_records(
    graph: Graph, sites: Sequence[Site], checked: Sequence[Node]
) -> list[list[str | int]]:
    """Sites by the position of a declared node at the same line: moved lines stay right."""
    places: dict[tuple[Any, object], int] = {}
    if sites:
        for k, declared in enumerate(_declared_nodes(graph)):
            places.setdefault((declared.op, provenance.locations(declared)[:1]), k)
    return [
        [s.op, places.get((n.op, provenance.locations(n)[:1]), -1), s.hint, s.kind]
        for s, n in zip(sites, checked, strict=True)
    ]
