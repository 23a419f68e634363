"""Provenance (floor 1): where the user wrote a node and what the user calls it.

Side tables keyed weakly by node, never part of a node's identity.  Locations are recorded for every
node when it is made; a rewrite or a gradient rule runs inside `derived_from(node)`, so that what it
makes points at the user's line of the node that it came from.
"""

from __future__ import annotations

import linecache
import os
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import TYPE_CHECKING

from graphc.base.errors import LOCATOR, GraphError, message
from graphc.base.intern import IdentityTable

if TYPE_CHECKING:
    from graphc.ir.node import Node

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_KERNELS = os.path.join(os.path.dirname(os.path.dirname(_PACKAGE)), "kernels") + os.sep
_STANDARD = os.path.dirname(os.path.abspath(os.__file__)) + os.sep
_MAX_LOCATIONS = 4  # a node merged from more places keeps the first ones


@dataclass(frozen=True, slots=True)
class Location:
    """One line of the user's code."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{os.path.basename(self.file)}:{self.line}"

    @property
    def source(self) -> str:
        """The text of the line, empty where the file cannot be read."""
        return linecache.getline(self.file, self.line).strip()

    def describe(self) -> str:
        """`model.py:20   y = graphc.matmul(x, w)`"""
        return f"{self}   {self.source}".rstrip()


# A line as it is noted where nodes are made: cheap, and of no use but to be compared.
Line = tuple[CodeType, int] | Location
_locations: IdentityTable[Node, tuple[Line, ...]] = IdentityTable()
_names: IdentityTable[Node, tuple[str, ...]] = IdentityTable()
_inside: dict[CodeType, bool] = {}


class _State(threading.local):
    def __init__(self) -> None:
        self.derived: tuple[Line, ...] | None = None
        self.scopes: tuple[str, ...] = ()
        self.collectors: tuple[dict[int, Node], ...] = ()


_state = _State()


def _is_internal(frame: FrameType) -> bool:
    code = frame.f_code
    known = _inside.get(code)
    if known is None:
        name = code.co_filename
        standard = name.startswith(_STANDARD) and "-packages" not in name
        # Methods that dataclasses make have no file, but the globals of their module.
        own = str(frame.f_globals.get("__name__")).startswith("graphc.")
        known = own or standard or name.startswith((_PACKAGE, _KERNELS, "<frozen"))
        _inside[code] = known
    return known


def hide_callers() -> None:
    """Count everything that is running now as internal.

    For programs whose user wrote no Python (the command line): errors then name no line of theirs.
    """
    frame = sys._getframe(1)
    while frame is not None:
        _inside[frame.f_code] = True
        if frame.f_back is None:
            break
        frame = frame.f_back


def _user_frame() -> tuple[CodeType, int] | None:
    frame = sys._getframe(2)
    while frame is not None:
        if not _is_internal(frame):
            return frame.f_code, frame.f_lineno
        if frame.f_back is None:
            return None
        frame = frame.f_back
    return None


def current_location() -> Location | None:
    """The user's line that is running now (the innermost frame outside graphc)."""
    if _state.derived:
        return _location(_state.derived[0])
    raw = _user_frame()
    return None if raw is None else _location(raw)


def here() -> str:
    """The user's line that is running now, for errors; empty when unknown."""
    if _state.derived:
        return _location(_state.derived[0]).describe()
    raw = _user_frame()
    return "" if raw is None else _location(raw).describe()


def _location(raw: Line) -> Location:
    return raw if isinstance(raw, Location) else Location(raw[0].co_filename, raw[1])


def record(node: Node) -> None:
    """Note where `node` was made; an interned node that is made again keeps its first place."""
    for collector in _state.collectors:
        collector[id(node)] = node
    if node in _locations:
        if _state.derived:
            merge(node, _state.derived)
        return
    if _state.derived is not None:
        _locations[node] = _state.derived
        return
    raw = _user_frame()
    if raw is not None:
        _locations[node] = (raw,)


def merge(node: Node, raws: tuple[Line, ...]) -> None:
    """Add locations to a node, the first ones first, up to a bound."""
    old = _locations.get(node, ())
    new = tuple(r for r in raws if r not in old)
    if new and len(old) < _MAX_LOCATIONS:
        _locations[node] = (old + new)[:_MAX_LOCATIONS]


def merge_from(node: Node, source: Node) -> None:
    """Add the locations of `source` to those of `node`: it stands for it from now on."""
    merge(node, _locations.get(source, ()))


def locations(node: Node) -> tuple[Location, ...]:
    """The user's lines of a node, the first one first; empty when unknown."""
    return tuple(_location(raw) for raw in _locations.get(node, ()))


def lines_of(nodes: Iterable[Node]) -> tuple[tuple[Line, ...], ...]:
    """Where each node was written, as something to compare."""
    return tuple([_locations.get(node, ()) for node in nodes])


def copy_lines(nodes: Iterable[Node], lines: Mapping[Line, Line]) -> None:
    """Move the locations of nodes to other lines, from old ones to new ones."""
    for node in nodes:
        old = _locations.get(node, ())
        if old:
            _locations[node] = tuple(dict.fromkeys(lines.get(raw, raw) for raw in old))


def where(node: Node) -> str:
    """`model.py:20   y = …`, or an empty string when unknown."""
    found = locations(node)
    return found[0].describe() if found else ""


@contextmanager
def derived_from(*nodes: Node) -> Iterator[None]:
    """Nodes made inside take the locations of `nodes` (merged, in order)."""
    old = _state.derived
    raws: tuple[Line, ...] = ()
    for node in nodes:
        raws += tuple(r for r in _locations.get(node, ()) if r not in raws)
    _state.derived = raws[:_MAX_LOCATIONS]
    try:
        yield
    finally:
        _state.derived = old


def set_derived(node: Node | None) -> None:
    """The cheap form of `derived_from` for drivers that visit many nodes: None ends it."""
    _state.derived = None if node is None else _locations.get(node, ())


@contextmanager
def name_scope(name: str) -> Iterator[None]:
    """Names given inside become `name/…`; scopes nest.

    Raises GraphError for an empty name or one with white space or quotes.
    """
    check_name(name)
    old = _state.scopes
    _state.scopes = (*old, name)
    try:
        yield
    finally:
        _state.scopes = old


@contextmanager
def recording(on: bool) -> Iterator[None]:
    """Whether nodes made inside take the user's line that is running; without, they have none."""
    old = _state.derived
    if not on:
        _state.derived = ()
    try:
        yield
    finally:
        _state.derived = old


@contextmanager
def collecting() -> Iterator[dict[int, Node]]:
    """The nodes that are made inside, by id; those that were there before count when they are made
    again.
    """
    old = _state.collectors
    found: dict[int, Node] = {}
    _state.collectors = (*old, found)
    try:
        yield found
    finally:
        _state.collectors = old


@contextmanager
def standing_at(place: Location) -> Iterator[None]:
    """Nodes made inside, and errors, point at `place`: a line of a text graph."""
    old = _state.derived
    _state.derived = (place,)
    try:
        yield
    finally:
        _state.derived = old


def restore(node: Node, places: tuple[Location, ...]) -> None:
    """Give a node without locations those that a file has for it."""
    if places and not _locations.get(node, ()):
        _locations[node] = places[:_MAX_LOCATIONS]


def check_name(name: str) -> None:
    """Names are printable, without white space and quotes, so that text files can hold them.

    Raises GraphError.
    """
    from_ok = isinstance(name, str) and name and not any(c.isspace() or c in '"\\%' for c in name)
    if not from_ok or not name.isprintable():
        raise GraphError(
            message(
                "a name or name_scope must be a non-empty string without white space, quotes, \\ "
                f"and %, got {name!r}",
                hint='write name="my_tensor", with an underscore; graphc.name_scope nests names',
            )
        )


def scoped(name: str) -> str:
    """`name` with the current scopes in front."""
    return "/".join((*_state.scopes, name))


def add_name(node: Node, name: str) -> None:
    """Give a node one more name (already scoped)."""
    old = _names.get(node, ())
    if name not in old:
        _names[node] = (*old, name)


def names(node: Node) -> tuple[str, ...]:
    """The user's names of a node, in the order given."""
    return _names.get(node, ())


def names_among(nodes: Iterable[Node]) -> dict[int, tuple[str, ...]]:
    """The users' names of those nodes that have some, by id."""
    return _names.among(nodes)


LOCATOR["here"] = here
