"""Relocation tables of the machines we load code for (runtime, floor 7): data, and bit arithmetic.

Each type says what the symbol stands for (its address, a call stub, a slot of the address table),
how many bytes are patched, and how value and place become those bytes.  All patches work on whole
arrays. Sources: System V ABI, AMD64 supplement; ELF for the Arm 64-bit Architecture (the names are
theirs).
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.int64]
# (old contents, value = symbol + addend, place) -> new contents; raises OverflowError
Patch = Callable[[Words, Words, Words], Words]


class Reference(enum.Enum):
    """What stands for the symbol in the relocation's value."""

    ADDRESS = "address"
    CALL = "call"  # the address, or a stub where the symbol is external
    GOT = "got"  # the slot in the table of addresses


class Relocation(NamedTuple):
    """One relocation type."""

    reference: Reference
    width: int
    patch: Patch


class Machine(NamedTuple):
    """One instruction set: its ELF number, its relocations, the code of a jump to any address."""

    name: str
    number: int
    relocations: Mapping[int, Relocation]
    stub: Callable[[int], bytes]


def _signed(value: Words, bits: int) -> Words:
    limit = 1 << (bits - 1)
    if value.size and (int(value.min()) < -limit or int(value.max()) >= limit):
        raise OverflowError(f"a value does not fit {bits} signed bits")
    return value


def _insert(words: Words, value: Words, bits: int, shift: int) -> Words:
    mask = (1 << bits) - 1
    return (words & ~(mask << shift)) | ((value & mask) << shift)


def _absolute(words: Words, value: Words, place: Words) -> Words:
    return value


def _absolute_unsigned(words: Words, value: Words, place: Words) -> Words:
    if value.size and (int(value.min()) < 0 or int(value.max()) >= 1 << 32):
        raise OverflowError("an address does not fit 32 unsigned bits")
    return value


def _absolute_signed(words: Words, value: Words, place: Words) -> Words:
    return _signed(value, 32)


def _relative(words: Words, value: Words, place: Words) -> Words:
    return value - place


def _relative_signed(words: Words, value: Words, place: Words) -> Words:
    return _signed(value - place, 32)


def _page(words: Words, value: Words, place: Words) -> Words:
    pages = _signed((value >> 12) - (place >> 12), 21)
    return _insert(_insert(words, pages, 2, 29), pages >> 2, 19, 5)


def _near(words: Words, value: Words, place: Words) -> Words:
    distance = _signed(value - place, 21)
    return _insert(_insert(words, distance, 2, 29), distance >> 2, 19, 5)


def _low12(scale: int) -> Patch:
    def patch(words: Words, value: Words, place: Words) -> Words:
        low = value & 0xFFF
        if np.any(low & ((1 << scale) - 1)):
            raise OverflowError(f"an address is not aligned to {1 << scale} bytes")
        return _insert(words, low >> scale, 12, 10)

    return patch


def _branch(bits: int, shift: int) -> Patch:
    def patch(words: Words, value: Words, place: Words) -> Words:
        distance = value - place
        if np.any(distance & 3):
            raise OverflowError("a branch target is not aligned to 4 bytes")
        return _insert(words, _signed(distance >> 2, bits), bits, shift)

    return patch


def _x86_stub(address: int) -> bytes:
    # jmp [rip + 2]; two bytes of padding; the address
    return bytes.fromhex("ff25020000000f0b") + address.to_bytes(8, "little")


def _aarch64_stub(address: int) -> bytes:
    # ldr x16, 8; br x16; the address. x16 is free for such use between a call and its target.
    return bytes.fromhex("50000058" + "00021fd6") + address.to_bytes(8, "little")


_ADDRESS, _CALL, _GOT = Reference.ADDRESS, Reference.CALL, Reference.GOT

X86_64 = Machine(
    "x86_64",
    62,
    {
        1: Relocation(_ADDRESS, 8, _absolute),  # R_X86_64_64
        2: Relocation(_ADDRESS, 4, _relative_signed),  # PC32
        4: Relocation(_CALL, 4, _relative_signed),  # PLT32
        9: Relocation(_GOT, 4, _relative_signed),  # GOTPCREL
        10: Relocation(_ADDRESS, 4, _absolute_unsigned),  # 32
        11: Relocation(_ADDRESS, 4, _absolute_signed),  # 32S
        24: Relocation(_ADDRESS, 8, _relative),  # PC64
        41: Relocation(_GOT, 4, _relative_signed),  # GOTPCRELX
        42: Relocation(_GOT, 4, _relative_signed),  # REX_GOTPCRELX
    },
    _x86_stub,
)

AARCH64 = Machine(
    "aarch64",
    183,
    {
        257: Relocation(_ADDRESS, 8, _absolute),  # R_AARCH64_ABS64
        258: Relocation(_ADDRESS, 4, _absolute_unsigned),  # ABS32
        260: Relocation(_ADDRESS, 8, _relative),  # PREL64
        261: Relocation(_ADDRESS, 4, _relative_signed),  # PREL32
        273: Relocation(_ADDRESS, 4, _branch(19, 5)),  # LD_PREL_LO19
        274: Relocation(_ADDRESS, 4, _near),  # ADR_PREL_LO21
        275: Relocation(_ADDRESS, 4, _page),  # ADR_PREL_PG_HI21
        277: Relocation(_ADDRESS, 4, _low12(0)),  # ADD_ABS_LO12_NC
        278: Relocation(_ADDRESS, 4, _low12(0)),  # LDST8_ABS_LO12_NC
        279: Relocation(_ADDRESS, 4, _branch(14, 5)),  # TSTBR14
        280: Relocation(_ADDRESS, 4, _branch(19, 5)),  # CONDBR19
        282: Relocation(_CALL, 4, _branch(26, 0)),  # JUMP26
        283: Relocation(_CALL, 4, _branch(26, 0)),  # CALL26
        284: Relocation(_ADDRESS, 4, _low12(1)),  # LDST16_ABS_LO12_NC
        285: Relocation(_ADDRESS, 4, _low12(2)),  # LDST32_ABS_LO12_NC
        286: Relocation(_ADDRESS, 4, _low12(3)),  # LDST64_ABS_LO12_NC
        299: Relocation(_ADDRESS, 4, _low12(4)),  # LDST128_ABS_LO12_NC
        311: Relocation(_GOT, 4, _page),  # ADR_GOT_PAGE
        312: Relocation(_GOT, 4, _low12(3)),  # LD64_GOT_LO12_NC
    },
    _aarch64_stub,
)

MACHINES = {machine.number: machine for machine in (X86_64, AARCH64)}
