"""Static libraries (floor 8): objects as an `ar` archive in the System V / GNU form.

The form is described in ar(5) and binutils' documentation: a magic word; members with a header of
60 letters each, at even offsets; first the member `/` with the index of symbols that linkers look
into (big-endian: a count, the offset of a member for each symbol, the names), then `//` with the
names that do not fit into a header.
Invariant: the same members give the same bytes; no date, owner or folder is kept.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

from graphc.base.errors import FormatError, message

_MAGIC = b"!<arch>\n"
_HEADER_BYTES = 60
_SHORT = 15  # ASCII letters of a name that stand in the header, before a slash
_MOST_BYTES = (1 << 32) - 1  # the index counts in 32 bits
_MODE = 0o644


def archive(members: Mapping[str, bytes], symbols: Mapping[str, Sequence[str]]) -> bytes:
    """The archive of `members` (file name to content), in their order.

    symbols: for each member, the global symbols that it defines, which go into the index. Raises
    FormatError for names that an archive cannot hold.
    """
    for name in members:
        _check_name(name)
    for name, defined in symbols.items():
        if name not in members:
            raise FormatError(message(f"symbols are given for {name!r}, which is no member", at=""))
        for symbol in defined:
            if not symbol or not symbol.isascii() or "\0" in symbol:
                raise FormatError(message(f"{symbol!r} is no name of a symbol", at=""))
    long_names, places = _long_names(members)
    pairs = [(symbol, name) for name in members for symbol in symbols.get(name, ())]
    table = b"".join(symbol.encode() + b"\0" for symbol, _ in pairs)
    end = len(_MAGIC) + (_member_bytes(len(long_names)) if long_names else 0)
    index_bytes = _even(4 * (1 + len(pairs)) + len(table))
    offsets = _offsets(members, end + (_member_bytes(index_bytes) if pairs else 0))
    parts = [_MAGIC]
    if pairs:
        numbers = struct.pack(
            f">{1 + len(pairs)}I", len(pairs), *(offsets[name] for _, name in pairs)
        )
        # Its own padding, of zeros, counts as its content.
        parts += _member("/", (numbers + table).ljust(index_bytes, b"\0"), mode=0)
    if long_names:
        parts += _member("//", long_names)
    for name, content in members.items():
        parts += _member(f"/{places[name]}" if name in places else f"{name}/", content)
    return b"".join(parts)


def _check_name(name: str) -> None:
    if not name or not name.isprintable() or "/" in name:
        raise FormatError(message(f"{name!r} is no file name for an archive", at=""))


def _long_names(members: Mapping[str, bytes]) -> tuple[bytes, dict[str, int]]:
    """The table of names that do not fit into a header, and where each starts in it."""
    table, places = b"", {}
    for name in members:
        if len(name) > _SHORT or not name.isascii():
            places[name] = len(table)
            table += name.encode() + b"/\n"
    return table, places


def _offsets(members: Mapping[str, bytes], start: int) -> dict[str, int]:
    """Where the header of each member is."""
    offsets = {}
    for name, content in members.items():
        offsets[name] = start
        start += _member_bytes(len(content))
    if start > _MOST_BYTES:
        raise FormatError(
            message(
                f"{start} bytes are too many for an archive: {_MOST_BYTES} at most",
                at="",
                hint='keep the weights beside it: weights="external" (--weights external)',
            )
        )
    return offsets


def _member(name: str, content: bytes, mode: int | None = _MODE) -> list[bytes]:
    """A header (name, date, owner, group, mode, size) and the content, padded to be even."""
    # GNU ar leaves all but the size of the table of names empty.
    fields = ("", "", "", "") if name == "//" else ("0", "0", "0", f"{mode:o}")
    date, owner, group, bits = fields
    header = f"{name:16}{date:12}{owner:6}{group:6}{bits:8}{len(content):<10}`\n".encode()
    assert len(header) == _HEADER_BYTES
    return [header, content, b"\n" * (len(content) % 2)]


def _member_bytes(size: int) -> int:
    return _HEADER_BYTES + _even(size)


def _even(size: int) -> int:
    return size + size % 2
