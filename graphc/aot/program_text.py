"""The stand-alone program of a graph (floor 8): reads and writes .npy files, calls the library.

The tables and the few functions that know the graph are written here; what is the same for every
graph is `program.c`, which follows them. C99 and POSIX, nothing else.
"""

from __future__ import annotations

from pathlib import Path

from graphc.aot.c_text import (
    FLOOR_DIV,
    c_literal,
    call_text,
    has_quotient,
    one_line,
    plain,
    shape_text,
    size_text,
    symbol_names,
)
from graphc.aot.header import bounds_text
from graphc.aot.interface import Interface, Operand, SizeArgument
from graphc.base.dims import Dim, Size, Symbol
from graphc.base.dtypes import DType, bfloat16, bool_

# Options that the program has itself.
_OPTIONS = ("threads", "steps", "state", "weights", "help")

_INCLUDES = """\
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>"""

_TYPES = """\
/* descr: of the .npy file; bits_descr: another that holds the bits; symbol: of each dim that is a
 * size alone its position, else -1. */
typedef struct {
    const char *option, *dtype, *descr, *bits_descr, *shape;
    size_t size;
    int rank;
    int symbol[RANK];
} operand;

typedef struct {
    const char *option, *bounds;
    int64_t least, most, multiple;
} size_argument;"""


def program_text(interface: Interface) -> str:
    """The program's C source; it includes `NAME.h`."""
    divides = has_quotient(size for o in interface.operands for size in o.shape)
    parts = [
        f"/* {interface.name}: the compiled graph {plain(interface.title)} on .npy files. */\n"
        "#define _POSIX_C_SOURCE 200809L",
        f'#include "{interface.name}.h"',
        _INCLUDES,
        _numbers(interface),
        _TYPES,
        _tables(interface),
        *([FLOOR_DIV.rstrip()] if divides else []),
        _shapes(interface),
        _calls(interface),
        _state_and_weights(interface),
        _help(interface),
        Path(__file__).with_name("program.c").read_text(encoding="utf-8"),
    ]
    return "\n\n".join(parts)


def npy_descr(dtype: DType) -> str:
    """The dtype in a .npy file; bfloat16 goes as float32."""
    if dtype is bfloat16:
        return "<f4"
    if dtype is bool_:
        return "|b1"
    return f"{'|' if dtype.itemsize == 1 else '<'}{dtype.kind}{dtype.itemsize}"


def option_name(name: str) -> str:
    """The option of an operand or size: its name, unless the program itself uses that."""
    return f"graph-{name}" if name in _OPTIONS else name


def _numbers(interface: Interface) -> str:
    p = interface.name
    rank = max([1, *(len(o.shape) for o in interface.operands)])
    inputs, outputs = len(interface.inputs), len(interface.outputs)
    return "\n".join(
        [
            f"#define PROGRAM {c_literal(p)}",
            "enum {",
            f"    SIZES = {len(interface.sizes)},",
            f"    INPUTS = {inputs},",
            f"    OUTPUTS = {outputs},",
            f"    OPERANDS = {inputs + outputs},",
            f"    RANK = {rank}, /* the most dims */",
            f"    HAS_STATE = {int(bool(interface.state))},",
            f"    HAS_WEIGHTS = {int(interface.external)},",
            f"    BAD_SIZE = {p}_BAD_SIZE,",
            f"    UNSUPPORTED_CPU = {p}_UNSUPPORTED_CPU",
            "};",
            f"#define STATE_BYTES {f'sizeof({p}_state)' if interface.state else '0'}",
        ]
    )


def _tables(interface: Interface) -> str:
    positions = {s.symbol.name: k for k, s in enumerate(interface.sizes)}
    lines = ["static const operand OPERAND[OPERANDS + 1] = {"]
    for o in interface.operands:
        texts = [
            option_name(o.name),
            o.dtype.name,
            npy_descr(o.dtype),
            "<V2" if o.dtype is bfloat16 else "",
            shape_text(o, symbol_names(interface)),
        ]
        symbols = ", ".join(str(_lone_symbol(s, positions)) for s in o.shape) or "-1"
        shown = ", ".join(c_literal(t) for t in texts)
        lines.append(f"    {{{shown}, {o.dtype.itemsize}, {len(o.shape)}, {{{symbols}}}}},")
    lines += [
        '    {"", "", "", "", "", 0, 0, {0}},',
        "};",
        "",
        "static const size_argument SIZE[SIZES + 1] = {",
    ]
    for s in interface.sizes:
        most = "INT64_MAX" if s.symbol.max is None else str(s.symbol.max)
        lines.append(
            f"    {{{c_literal(option_name(s.name))}, {c_literal(bounds_text(s))}, "
            f"{s.symbol.min}, {most}, {s.symbol.multiple_of}}},"
        )
    return "\n".join([*lines, '    {"", "", 0, 0, 1},', "};"])


def _lone_symbol(size: Size, positions: dict[str, int]) -> int:
    """The position of the symbol that the size is, or -1."""
    if isinstance(size, Dim) and len(size.terms) == 1:
        monomial, coefficient = size.terms[0]
        if coefficient == 1 and len(monomial) == 1 and isinstance(monomial[0], Symbol):
            return positions[monomial[0].name]
    return -1


def _shapes(interface: Interface) -> str:
    positions = {s.symbol.name: k for k, s in enumerate(interface.sizes)}

    def name(symbol: Symbol) -> str:
        return f"n[{positions[symbol.name]}]"

    lines = [
        "/* The shape of each operand for these sizes. */",
        "static void find_shapes(const int64_t *n, int64_t (*shape)[RANK])",
        "{",
        "    (void)n;",
        "    (void)shape;",
    ]
    for k, o in enumerate(interface.operands):
        for axis, size in enumerate(o.shape):
            lines.append(f"    shape[{k}][{axis}] = {size_text(size, name)};")
    return "\n".join([*lines, "}"])


def _calls(interface: Interface) -> str:
    p = interface.name
    sizes = [f"n[{k}]" for k in range(len(interface.sizes))]
    arguments = ["state"] if interface.state else []
    arguments += ["&weights"] if interface.external else []
    arguments += [*sizes, *(f"array[{k}]" for k in range(len(interface.operands)))]
    call = call_text(f"    return {p}_run(", [*arguments, "workspace", "bytes"], " " * 8)
    return "\n".join(
        [
            *([f"static {p}_weights weights;", ""] if interface.external else []),
            "static size_t bytes_needed(const int64_t *n)",
            "{",
            "    (void)n;",
            f"    return {p}_workspace_size({', '.join(sizes)});",
            "}",
            "",
            "static int call(void *state, const int64_t *n, void *const *array, void *workspace, "
            "size_t bytes)",
            "{",
            "    (void)state;",
            "    (void)n;",
            "    (void)array;",
            call.replace("return ", "return (int)", 1),
            "}",
            "",
            "static const char *message_of(int status)",
            "{",
            f"    return {p}_message(({p}_status)status);",
            "}",
            "",
            "static const char *isa_in_use(void)",
            "{",
            f"    return {p}_isa();",
            "}",
            "",
            "static void threads_to(int32_t threads)",
            "{",
            f"    {p}_set_threads(threads);",
            "}",
        ]
    )


def _state_and_weights(interface: Interface) -> str:
    p = interface.name
    initial = opened = "0"
    closed = ""
    if interface.state:
        second = ", &weights" if interface.external else ""
        initial = f"(int){p}_state_init(state{second})"
    if interface.external:
        opened = f"(int){p}_weights_open(&weights, path)"
        closed = f"\n    {p}_weights_close(&weights);"
    return "\n".join(
        [
            "static int first_values(void *state)",
            "{",
            "    (void)state;",
            f"    return {initial};",
            "}",
            "",
            "static int weights_at(const char *path)",
            "{",
            "    (void)path;",
            f"    return {opened};",
            "}",
            "",
            "static void weights_done(void)",
            f"{{{closed}",
            "}",
        ]
    )


def _help(interface: Interface) -> str:
    lines = help_text(interface).splitlines()
    return "\n".join(
        [
            "static void print_help(void)",
            "{",
            *(f"    puts({c_literal(line)});" for line in lines),
            "}",
        ]
    )


def help_text(interface: Interface) -> str:
    """What `--help` prints."""
    p = interface.name
    required = "".join(f" --{option_name(o.name)} {o.name}.npy" for o in interface.inputs)
    optional = "".join(f" --{option_name(o.name)} {o.name}.npy" for o in interface.outputs)
    lines = [f"usage: {p}{required}{optional} [options]", ""]
    title = one_line(interface.title)
    lines.append(f"Computes the graph {title} on .npy files." if title else "Computes a graph.")
    rows = [("option", "", "dtype", "shape", "in the graph")]
    rows += [_row(o, "in", interface) for o in interface.inputs]
    rows += [_row(o, "out", interface) for o in interface.outputs]
    widths = [max(len(row[k]) for row in rows) for k in range(5)]
    lines.append("")
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        lines.append(("  " + "  ".join(cells)).rstrip())
    lines += ["", "  Every input is needed; outputs without a file are not written.", ""]
    options = [_size_row(s) for s in interface.sizes]
    options += [("--threads N", "threads to use, 1 to 256 (1)")]
    if interface.state:
        options += [
            ("--state FILE", "start from a saved state instead of the first values"),
            ("--save-state FILE", "write the state after the last step"),
            ("--steps N", "call that often with the same inputs (1)"),
        ]
    if interface.external:
        text = f"the weights ({p}.safetensors beside the program)"
        options += [("--weights FILE", text)]
    options += [("--help", "print this")]
    width = max(len(name) for name, _ in options)
    lines += [f"  {name.ljust(width)}  {text}" for name, text in options]
    lines += ["", "exit status: 0 success, 1 failure, 2 wrong use"]
    return "\n".join(lines) + "\n"


def _row(o: Operand, way: str, interface: Interface) -> tuple[str, str, str, str, str]:
    shape = shape_text(o, symbol_names(interface))
    dtype = "bfloat16 (as float32)" if o.dtype is bfloat16 else o.dtype.name
    return f"--{option_name(o.name)}", way, dtype, shape, one_line(o.label)


def _size_row(s: SizeArgument) -> tuple[str, str]:
    text = f"the size {s.name}: {bounds_text(s)} (as the inputs say)"
    return f"--{option_name(s.name)} N", text
