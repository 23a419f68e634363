"""weights.safetensors (floor 8): its table of tensors, written and read.

The table is a safetensors header: sizes and places of all tensors, without gaps.  Its metadata maps
each tensor's name to the digest by which graph.txt calls it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from graphc.artifact.container import ALIGNMENT, WEIGHTS
from graphc.artifact.json_text import is_count, is_digest, read_object
from graphc.artifact.refusal import check_limit, refuse
from graphc.base.dtypes import ALL, DType
from graphc.base.limits import Limits
from graphc.ir.constant import ConstantValue, byte_parts

CODES = {
    d: "BOOL" if d.is_bool else "BF16" if d.name == "bfloat16" else d.short.upper() for d in ALL
}
_DTYPES = {code: d for d, code in CODES.items()}
_METADATA = "__metadata__"
_TABLE = f"{WEIGHTS}: table"


@dataclass(frozen=True, slots=True)
class Stored:
    """One tensor of the file: start is the offset of its bytes in the member."""

    name: str
    digest: str
    dtype: DType
    shape: tuple[int, ...]
    start: int
    nbytes: int


def table_of(values: Mapping[str, ConstantValue]) -> tuple[bytes, list[ConstantValue]]:
    """The table (length word included) of values by name, and the values in the order of the data.

    The most evenly sized come first, so that without gaps each begins at a multiple of its own
    alignment, nearly all at multiples of 64 bytes.
    """
    items = sorted(values.items(), key=lambda item: (-_evenness(item[1].nbytes), item[0]))
    header: dict[str, object] = {
        _METADATA: {name: value.digest for name, value in sorted(values.items())}
    }
    end = 0
    for name, value in items:
        start, end = end, end + value.nbytes
        header[name] = {
            "dtype": CODES[value.dtype],
            "shape": list(value.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    return len(text).to_bytes(8, "little") + text, [value for _, value in items]


def _evenness(nbytes: int) -> int:
    return min(ALIGNMENT, nbytes & -nbytes) if nbytes else ALIGNMENT


def parts_of(table: bytes, values: list[ConstantValue]) -> Iterator[bytes | memoryview]:
    """The bytes of the member, in parts; tensors are not copied."""
    yield table
    for value in values:
        yield from byte_parts(value.stored)


# -- reading --------------------------------------------------------------------------------------


def read_table(data: memoryview, limits: Limits) -> tuple[bytes, dict[str, Stored]]:
    """The table's bytes, and the tensors by digest. Raises FormatError where the table lies about
    the member, or is larger than the limits.
    """
    if len(data) < 8:
        refuse(WEIGHTS, "length", len(data), "at least 8 bytes")
    length = int.from_bytes(data[:8], "little")
    check_limit(_TABLE, "length", length, limits.tensor_table_bytes, "tensor_table_bytes")
    if length > len(data) - 8 or (length + 8) % ALIGNMENT:
        refuse(_TABLE, "length", length, f"8 less than a multiple of 64, up to {len(data) - 8}")
    raw = bytes(data[8 : 8 + length])
    header = read_object(_TABLE, raw)
    metadata = header.pop(_METADATA, None)
    check_limit(_TABLE, "tensors", len(header), limits.tensors, "tensors")
    if not isinstance(metadata, dict) or set(metadata) != set(header):
        refuse(_TABLE, _METADATA, metadata, "the digest of every tensor by its name")
    found: dict[str, Stored] = {}
    end = 0
    for name, record in header.items():
        tensor = _read_record(name, record, metadata[name], 8 + length, limits)
        if tensor.start - 8 - length != end:
            refuse(f"{_TABLE}: {name}", "data_offsets", record["data_offsets"], f"a start of {end}")
        end += tensor.nbytes
        if tensor.digest in found:
            refuse(f"{_TABLE}: {name}", "digest", tensor.digest, "one that no other tensor has")
        found[tensor.digest] = tensor
    if end != len(data) - 8 - length:
        refuse(WEIGHTS, "bytes of data", len(data) - 8 - length, f"{end} as the table says")
    return bytes(data[: 8 + length]), found


def _read_record(name: str, record: Any, digest: Any, base: int, limits: Limits) -> Stored:
    where = f"{_TABLE}: {name[:60]}"
    check_limit(where, "length of the name", len(name), limits.name_length, "name_length")
    if not isinstance(record, dict) or set(record) != {"dtype", "shape", "data_offsets"}:
        refuse(where, "record", record, "dtype, shape and data_offsets")
    if not is_digest(digest):
        refuse(where, "digest", digest, "64 hexadecimal digits")
    code, shape, offsets = record["dtype"], record["shape"], record["data_offsets"]
    if not isinstance(code, str) or code not in _DTYPES:
        refuse(where, "dtype", code, "one of " + " ".join(_DTYPES))
    if not isinstance(shape, list) or not all(map(is_count, shape)):
        refuse(where, "shape", shape, "a list of sizes")
    check_limit(where, "rank", len(shape), limits.rank, "rank")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(map(is_count, offsets)):
        refuse(where, "data_offsets", offsets, "two offsets")
    dtype = _DTYPES[code]
    nbytes = room = dtype.itemsize
    for size in shape:
        nbytes *= size
        room *= max(size, 1)  # an array without elements has bounded sizes as well
        if room > limits.size:
            refuse(where, "shape", shape, f"at most {limits.size} bytes (limit size)")
    if offsets[1] - offsets[0] != nbytes:
        refuse(where, "data_offsets", offsets, f"{nbytes} bytes for {dtype.short}{shape}")
    return Stored(name, digest, dtype, tuple(shape), base + offsets[0], nbytes)
