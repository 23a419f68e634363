"""A compiled graph as a plain C callback (floor 8): `double NAME_callable(int, double *, void *)`.

The form that numerical libraries take for an integrand or an objective: a vector of float64 goes
in, one float64 comes out.
"""

from __future__ import annotations

from graphc.aot.interface import Interface
from graphc.base.dims import Dim

_TEXT = """\
define double @{p}_callable(i32 %n, ptr %x, ptr %user) nounwind {{
entry:
  %y = alloca double, align 8
  %given = icmp ne ptr %user, null
  %long = sext i32 %n to i64
  %right = {right}
  %go = and i1 %given, %right
  br i1 %go, label %call, label %bad
call:
  %workspace = load ptr, ptr %user, align 8
  %at = getelementptr i8, ptr %user, i64 8
  %bytes = load i64, ptr %at, align 8
  %status = call i32 @{p}_run({sizes}ptr %x, ptr %y, ptr %workspace, i64 %bytes)
  %good = icmp eq i32 %status, 0
  br i1 %good, label %done, label %bad
done:
  %value = load double, ptr %y, align 8
  ret double %value
bad:
  ret double 0x7FF8000000000000
}}"""


def callable_text(interface: Interface) -> str:
    """The function as LLVM text; empty for a graph that has no such form. NaN for any failure."""
    if not interface.is_scalar_function:
        return ""
    (size,) = interface.inputs[0].shape
    symbolic = isinstance(size, Dim)
    return _TEXT.format(
        p=interface.name,
        right="icmp sge i64 %long, 0" if symbolic else f"icmp eq i64 %long, {size}",
        sizes="i64 %long, " if symbolic else "",
    )
