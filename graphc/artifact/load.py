"""Reading `.graphc` files (floor 8): nothing in them is believed, and nothing of them is run.

Everything is checked before it is used, against the file itself and against `Limits`. Tensors are
views of the mapped file.  Their bytes are compared with their digests at once where they are few,
when they are first read where they are many; `check=True` reads all of them at once.
"""

from __future__ import annotations

import mmap
import os
import stat
import zlib
from collections.abc import Mapping

import numpy as np

from graphc.artifact.container import (
    GRAPH,
    MANIFEST,
    PROVENANCE,
    WEIGHTS,
    Place,
    read_layout,
)
from graphc.artifact.manifest import Member, check_member, read_manifest
from graphc.artifact.places import located_nodes, read_provenance
from graphc.artifact.refusal import check_limit, refusal, refuse
from graphc.artifact.tensors import Stored, read_table
from graphc.base.errors import FormatError, message
from graphc.base.limits import Limits
from graphc.ir import provenance
from graphc.ir.constant import ConstantValue, from_file
from graphc.ir.graph import Graph
from graphc.ir.parse import parse

EAGER_BYTES = 16 << 20  # up to this size the weights are checked when a file is loaded


def load(
    path: str | os.PathLike[str], *, check: bool | None = None, limits: Limits | None = None
) -> Graph:
    """The graph of a `.graphc` file, its variables with the values that were saved.

    Safe for files from strangers: no code of the file runs, and whatever is wrong with it is a
    FormatError. Large weights stay in the file, which is mapped into memory and must not be
    changed in place while the graph lives (`graph.save` replaces files as a whole). check: compare
    all weights with their digests now (True), or each tensor when it is first read (False); by
    default now where they have at most 16 MB. A tensor that differs is a FormatError then.
    limits: what is accepted; see `graphc.Limits`.

        graph = graphc.load("digits.graphc")
    """
    with_limits = Limits() if limits is None else limits
    return load_bytes(_mapped(path), check=check, limits=with_limits)


def _mapped(path: str | os.PathLike[str]) -> memoryview:
    shown = os.fspath(path)
    try:
        # A pipe or a device is refused, not waited for.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise FormatError(message(f"{shown!r} is no file", hint="give the path of a file"))
            if status.st_size == 0:
                refuse("the file", "size", 0, "more than 0 bytes")
            return memoryview(mmap.mmap(descriptor, status.st_size, access=mmap.ACCESS_READ))
        finally:
            os.close(descriptor)
    except (OSError, ValueError) as error:
        if isinstance(error, FormatError):
            raise
        reason = error.strerror if isinstance(error, OSError) else error
        raise FormatError(
            message(f"cannot read {shown!r}: {reason}", hint="give the path of a .graphc file")
        ) from error


def load_bytes(data: memoryview, *, check: bool | None, limits: Limits) -> Graph:
    """`load` of a file that is in memory (or mapped), which must stay as it is."""
    places = read_layout(data)
    allowed = {
        MANIFEST: ("manifest_bytes", limits.manifest_bytes),
        GRAPH: ("text_bytes", limits.text_bytes),
        PROVENANCE: ("provenance_bytes", limits.provenance_bytes),
    }
    for name, place in places.items():
        if name in allowed:
            limit, most = allowed[name]
            check_limit(name, "size", place.entry.size, most, limit)
    raw = _content(data, places[MANIFEST])
    _check_crc(places[MANIFEST], raw)
    members = read_manifest(bytes(raw), limits)
    if list(places)[1:] != list(members):
        refuse(MANIFEST, "members", list(members), f"the file's, {list(places)[1:]}")
    for name, member in members.items():
        size = places[name].entry.size
        if member.size != size:
            refuse(f"{MANIFEST}: members: {name}", "size", member.size, f"the member's, {size}")
        if name != WEIGHTS:
            _check_crc(places[name], _content(data, places[name]))
            check_member(name, _content(data, places[name]), member.sha256)
    constants = _constants(data, places, members, check, limits)
    return _graph(data, places, constants, limits)


def _content(data: memoryview, place: Place) -> memoryview:
    return data[place.start : place.end]


def _check_crc(place: Place, content: memoryview) -> None:
    if zlib.crc32(content) != place.entry.crc:
        refuse(place.entry.name, "CRC-32", place.entry.crc, f"{zlib.crc32(content)}, its bytes'")


def _constants(
    data: memoryview,
    places: Mapping[str, Place],
    members: Mapping[str, Member],
    check: bool | None,
    limits: Limits,
) -> dict[str, ConstantValue]:
    if WEIGHTS not in places:
        return {}
    content = _content(data, places[WEIGHTS])
    table, tensors = read_table(content, limits)
    check_member(f"{WEIGHTS}: table", memoryview(table), members[WEIGHTS].table)
    eager = len(content) <= EAGER_BYTES if check is None else check
    if eager:
        _check_crc(places[WEIGHTS], content)
        check_member(WEIGHTS, content, members[WEIGHTS].sha256)
    values = {digest: _view(content, tensor) for digest, tensor in tensors.items()}
    return {digest: v.check() for digest, v in values.items()} if eager else values


def _view(content: memoryview, tensor: Stored) -> ConstantValue:
    def failed(found: str) -> FormatError:
        return refusal(
            f"{WEIGHTS}: {tensor.name}",
            "sha256 of its type and bytes",
            found,
            f"{tensor.digest} as its table says",
            "the file was damaged after it was written, or while it is in use: take another copy",
        )

    raw = content[tensor.start : tensor.start + tensor.nbytes]
    storage = tensor.dtype.storage.newbyteorder("<")
    array = np.frombuffer(raw, storage).reshape(tensor.shape)
    return from_file(array, tensor.dtype, tensor.digest, failed)


def _graph(
    data: memoryview,
    places: Mapping[str, Place],
    constants: Mapping[str, ConstantValue],
    limits: Limits,
) -> Graph:
    raw = _content(data, places[GRAPH])
    try:
        text = str(raw, "utf-8")
    except UnicodeDecodeError as error:
        raise refusal(GRAPH, f"byte {error.start}", raw[error.start], "UTF-8") from None
    lines = None
    if PROVENANCE in places:
        lines = read_provenance(bytes(_content(data, places[PROVENANCE])), limits)
    try:
        with provenance.recording(lines is None):
            graph = parse(text, constants, limits=limits, own_constants=True)
    except FormatError as error:
        raise FormatError(f"{GRAPH}: {error}") from None
    if lines is not None:
        nodes = located_nodes(graph)
        if len(lines) == len(graph.nodes):  # older files have none for bodies
            nodes = graph.nodes
        if len(lines) != len(nodes):
            refuse(PROVENANCE, "nodes", len(lines), f"{len(nodes)} as {GRAPH} has")
        for node, places_of_node in zip(nodes, lines, strict=True):
            provenance.restore(node, places_of_node)
    _check_use(constants, graph)
    return graph


def _check_use(constants: Mapping[str, ConstantValue], graph: Graph) -> None:
    used: set[str] = set()
    for inside in (graph, *graph.bodies):
        for node in inside.nodes:
            used |= {v.digest for v in node.attrs if isinstance(v, ConstantValue)}
    unused = [digest for digest in constants if digest not in used]
    if unused:
        refuse(WEIGHTS, "digest of a tensor", unused[0], f"one that {GRAPH} names")
