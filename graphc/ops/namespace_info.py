"""What the Array API asks of a namespace (floor 2): its version, dtypes, devices, capabilities.

A library that takes any Array API namespace reads it through `graphc.__array_namespace_info__()`.
"""

from __future__ import annotations

from graphc.base.dtypes import ALL, DType, DTypeLike, bfloat16, float64, int64
from graphc.ops.data_types import isdtype
from graphc.ops.promotion import check_device

VERSION = "2024.12"


class NamespaceInfo:
    """What `graphc.__array_namespace_info__()` gives."""

    def capabilities(self) -> dict[str, bool | int | None]:
        """What the standard leaves open: sizes may depend on values (`graphc.as_dim`)."""
        return {
            "boolean indexing": True,
            "data-dependent shapes": True,
            "max dimensions": None,
        }

    def default_device(self) -> None:
        """None: the session that runs a graph chooses."""

    def devices(self) -> list[str | None]:
        """What `device=` accepts and `tensor.device` says."""
        return [None, "any"]

    def default_dtypes(self, *, device: object = None) -> dict[str, DType | None]:
        """The dtypes of results where nothing else decides."""
        check_device("default_dtypes", device)
        return {
            "real floating": float64,
            "complex floating": None,
            "integral": int64,
            "indexing": int64,
        }

    def dtypes(
        self, *, device: object = None, kind: DTypeLike | tuple[DTypeLike, ...] | None = None
    ) -> dict[str, DType]:
        """The dtypes of the standard by name, or those of a kind (see `isdtype`)."""
        check_device("dtypes", device)
        standard = [d for d in ALL if d is not bfloat16 and d.name != "float16"]
        return {d.name: d for d in standard if kind is None or isdtype(d, kind)}


def array_namespace_info() -> NamespaceInfo:
    """The Array API's `__array_namespace_info__`."""
    return NamespaceInfo()
