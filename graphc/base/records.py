"""Dataclasses that are made quickly (floor 0).

The standard decorator writes every method of a class as text and compiles it: a millisecond for a
frozen class with slots, of which `import graphc` and the compiler have some two hundred. This one
lets it collect the fields, then compiles `__init__` alone; all other methods are shared or read the
fields through an `operator.attrgetter`. The result is a dataclass for `fields`, `replace` and type
checkers, with the same meaning.
"""

from __future__ import annotations

import dataclasses
import reprlib
from operator import attrgetter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:

    def dataclass(
        cls: type | None = None,
        /,
        *,
        eq: bool = True,
        repr: bool = True,
        frozen: bool = False,
        slots: bool = False,
        weakref_slot: bool = False,
    ) -> Any:
        """`dataclasses.dataclass` for classes without fields of the kind `InitVar`."""

        def decorate(plain: type) -> type:
            own = vars(plain)
            hashed = "__hash__" in own and not (own["__hash__"] is None and "__eq__" in own)
            made = dataclasses.dataclass(
                plain, init=False, repr=False, eq=False, slots=slots, weakref_slot=weakref_slot
            )
            every = dataclasses.fields(made)
            methods: dict[str, Any] = {"__init__": _init_of(made, every, frozen)}
            if repr:
                methods["__repr__"] = _repr
            if eq:
                get = _getter(tuple([f.name for f in every if f.compare]))
                methods["__eq__"] = _eq_of(get)
                if not hashed:
                    made.__hash__ = _hash_of(get) if frozen else None
            if frozen:
                methods |= {"__setattr__": _set, "__delattr__": _delete}
                if slots:
                    methods |= {"__getstate__": _state, "__setstate__": _restore}
            for name, method in methods.items():
                if name not in own:
                    setattr(made, name, method)
            return made

        return decorate if cls is None else decorate(cls)


def _init_of(made: type, every: tuple[dataclasses.Field[Any], ...], frozen: bool) -> Any:
    """The constructor: the one method whose text depends on the fields."""
    # Their names must not be those of fields, which are the parameters.
    known: dict[str, Any] = {"_MISSING_": dataclasses.MISSING, "_STORE_": object.__setattr__}
    parameters: list[str] = []
    keywords: list[str] = []
    lines: list[str] = []
    for k, f in enumerate(every):
        default, value = "", f.name
        if f.default_factory is not dataclasses.MISSING:
            known[f"_MAKE{k}_"] = f.default_factory
            default = "=_MISSING_"
            made_now = f"_MAKE{k}_()"
            value = f"{made_now} if {f.name} is _MISSING_ else {f.name}" if f.init else made_now
        elif f.default is not dataclasses.MISSING:
            known[f"_DEFAULT{k}_"] = f.default
            default = f"=_DEFAULT{k}_"
            value = f.name if f.init else f"_DEFAULT{k}_"
        elif not f.init:
            continue
        if f.init:
            (keywords if f.kw_only else parameters).append(f.name + default)
        store = f"_STORE_(self, {f.name!r}, {value})" if frozen else f"self.{f.name} = {value}"
        lines.append(f"  {store}")
    if hasattr(made, "__post_init__"):
        lines.append("  self.__post_init__()")
    if keywords:
        parameters += ["*", *keywords]
    head = f"def __init__({', '.join(['self', *parameters])}):"
    exec("\n".join([head, *(lines or ["  pass"])]), known)
    init = known["__init__"]
    init.__qualname__ = f"{made.__qualname__}.__init__"
    init.__module__ = made.__module__
    return init


def _getter(names: tuple[str, ...]) -> Any:
    if not names:
        return lambda record: ()
    return attrgetter(*names)


def _eq_of(get: Any) -> Any:
    def __eq__(self: Any, other: object) -> Any:
        if other.__class__ is self.__class__:
            return get(self) == get(other)
        return NotImplemented

    return __eq__


def _hash_of(get: Any) -> Any:
    def __hash__(self: Any) -> int:
        return hash(get(self))

    return __hash__


@reprlib.recursive_repr()
def _repr(self: Any) -> str:
    parts = [f"{f.name}={getattr(self, f.name)!r}" for f in dataclasses.fields(self) if f.repr]
    return f"{type(self).__qualname__}({', '.join(parts)})"


def _set(self: Any, name: str, value: object) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")


def _delete(self: Any, name: str) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")


def _state(self: Any) -> list[Any]:
    return [getattr(self, f.name) for f in dataclasses.fields(self)]


def _restore(self: Any, state: list[Any]) -> None:
    for f, value in zip(dataclasses.fields(self), state, strict=True):
        object.__setattr__(self, f.name, value)
