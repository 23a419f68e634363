"""The C header of a compiled library (floor 8): `NAME.h`, for C99 and C++98 and later.

Everything in it is read off the `Interface`: types, functions in the order of use, and for each
argument what it is in the graph, its dtype, shape, bounds, and who owns it.
"""

from __future__ import annotations

from graphc.aot.c_text import (
    call_text,
    comment,
    plain,
    run_parameters,
    shape_text,
    size_parameters,
    symbol_names,
)
from graphc.aot.interface import (
    ABI_VERSION,
    FIRST_SITE,
    STATUSES,
    Interface,
    Operand,
    SizeArgument,
    c_type,
)
from graphc.base.dtypes import DType

_BITS = {
    "float16": "the 16 bits of an IEEE 754 half-precision number",
    "bfloat16": "the upper 16 bits of a float",
    "bool": "each byte 0 or 1",
}


def header_text(interface: Interface, version: str) -> str:
    """`NAME.h`; version: of graphc, for the first comment."""
    p = interface.name
    guard = f"GRAPHC_{p}_H"
    parts = [
        _introduction(interface, version),
        f"#ifndef {guard}\n#define {guard}",
        "#include <stddef.h>\n#include <stdint.h>\n"
        "#ifndef __cplusplus\n#include <stdbool.h>\n#endif",
        '#ifdef __cplusplus\nextern "C" {\n#endif',
        f"/** The version of this interface; {p}_abi_version() tells the one of the library. */\n"
        f"#define {p}_ABI_VERSION {ABI_VERSION}",
        _statuses(interface),
        *([_weights_type(interface)] if interface.external else []),
        *([_state_type(interface)] if interface.state else []),
        _workspace(interface),
        *([_state_functions(interface)] if interface.state else []),
        _run(interface),
        *([_weights_functions(interface)] if interface.external else []),
        *([_CALLABLE.format(p=p)] if interface.is_scalar_function else []),
        _THREADS.format(p=p),
        _REST.format(p=p),
        "#ifdef __cplusplus\n}\n#endif",
        f"#endif /* {guard} */",
    ]
    return "\n\n".join(parts) + "\n"


def operand_text(operand: Operand, interface: Interface) -> str:
    """Graph name, dtype, shape: `the graph's "x": float32, shape [batch, 64]`."""
    shape = shape_text(operand, symbol_names(interface))
    return f'"{plain(operand.label)}" of the graph: {dtype_text(operand.dtype)}, shape {shape}'


def dtype_text(dtype: DType) -> str:
    """The dtype, with what a C programmer must know about its elements."""
    note = _BITS.get(dtype.name)
    return f"{dtype.name} ({note})" if note else dtype.name


def bounds_text(size: SizeArgument) -> str:
    """`at least 1, at most 64, a multiple of 8`."""
    symbol = size.symbol
    parts = [f"at least {symbol.min}"]
    parts += [f"at most {symbol.max}"] if symbol.max is not None else []
    parts += [f"a multiple of {symbol.multiple_of}"] if symbol.multiple_of != 1 else []
    return ", ".join(parts)


def _introduction(interface: Interface, version: str) -> str:
    p = interface.name
    sizes = ", ".join(s.name for s in interface.sizes)
    run = ", ".join(parameter.split()[-1].lstrip("*") for parameter in run_parameters(interface))
    run = run.replace("workspace_bytes", "bytes")
    if interface.state:
        run = run.replace("state", "&state", 1)
    if interface.external:
        run = run.replace("weights", "&weights", 1)
    second = ", &weights" if interface.external else ""
    lines = [
        f"{p}.h: the compiled graph {plain(interface.title) or p!r} as functions of C.",
        f"Written by graphc {plain(version)}; belongs to the library of the same name.",
        "",
        "Use, with every status compared with 0:",
    ]
    if interface.external:
        lines.append(f'    {p}_weights weights;  {p}_weights_open(&weights, "{p}.safetensors");')
    if interface.state:
        lines.append(f"    {p}_state state;  {p}_state_init(&state{second});")
    lines += [
        f"    size_t bytes = {p}_workspace_size({sizes});  void *workspace = malloc(bytes);",
        f"    {p}_status status = {p}_run({run});",
        "",
        "Memory: every array, the workspace and the state belong to the caller and are used during "
        "the call only; the library allocates none. Arrays are C-contiguous (the last index runs "
        "fastest) and aligned as their element type; an array without elements may be NULL. "
        "Outputs may overlap neither inputs nor each other.",
        "Threads: every function may be called from several threads at once, each call with a "
        "workspace, outputs and state of its own.",
        "Errors: nothing is read or written before sizes and pointers are checked, and a call that "
        "fails leaves the state as it was; the contents of the outputs are then unspecified.",
    ]
    return comment(lines, start="/*")


def _statuses(interface: Interface) -> str:
    p = interface.name
    width = max(len(name) for name, _, _ in STATUSES)
    body = [
        f"    {p}_{name}{' ' * (width - len(name))} = {code}, /**< {text} */"
        for name, code, text in STATUSES
    ]
    lines = ["What a call came to."]
    if interface.sites:
        last = FIRST_SITE + len(interface.sites) - 1
        lines.append(
            f"Codes from {FIRST_SITE} to {last} name a place in the graph that met a value it "
            f"cannot compute with; {p}_message says so in words:"
        )
        lines += [f"    {FIRST_SITE + k}: {plain(text)}" for k, text in enumerate(interface.sites)]
    return "\n".join(
        [
            comment(lines),
            f"typedef enum {p}_status {{",
            *body,
            # The codes of places have no names; the type must hold them, in 32 bits.
            f"    {p}_STATUS_MAX{' ' * (width - 10)} = 0x7FFFFFFF /**< makes the type 32 bits */",
            f"}} {p}_status;",
        ]
    )


def _state_type(interface: Interface) -> str:
    p = interface.name
    _, size = interface.state_offsets()
    lines = [
        f"The variables that {p}_run updates. {p}_state_init gives them their first values; after "
        "that the members may be read and written freely between calls, and the struct copied, "
        "saved and restored as bytes. Static or allocated: it may be too large for a stack "
        f"({size} bytes).",
        "A member that holds no element is left out.",
    ]
    members = ["    uint64_t graphc_layout; /**< which library's state it is: do not change */"]
    for member in interface.state:
        shape = "".join(f"[{n}]" for n in member.shape)
        if member.elements != 0:
            members.append(
                f"    {c_type(member.dtype)} {member.name}{shape}; "
                f"/**< {operand_text(member, interface)} */"
            )
    return "\n".join([comment(lines), f"typedef struct {p}_state {{", *members, f"}} {p}_state;"])


def _weights_type(interface: Interface) -> str:
    p = interface.name
    text = f"The weights file {p}.safetensors, mapped read-only; shared by any number of calls."
    return (
        f"{comment([text])}\ntypedef struct {p}_weights {{\n    const void *base;\n}} {p}_weights;"
    )


def _size_lines(interface: Interface) -> list[str]:
    return [f"@param {s.name}  a size: {bounds_text(s)}" for s in interface.sizes]


def _workspace(interface: Interface) -> str:
    p = interface.name
    lines = [
        f"How many bytes of scratch memory {p}_run needs for these sizes. It grows with the number "
        f"of threads: ask again after {p}_set_threads. Memory of any contents and alignment will "
        "do; it is neither kept nor freed, and may be reused for the next call of any sizes that "
        "need no more.",
        *_size_lines(interface),
        "@return  bytes, more than 0; 0 where a size is out of bounds or the processor is not "
        "supported",
    ]
    declaration = call_text(f"size_t {p}_workspace_size(", size_parameters(interface) or ["void"])
    return f"{comment(lines)}\n{declaration}"


def _run(interface: Interface) -> str:
    p = interface.name
    lines = ["Compute the outputs" + (", then update the state." if interface.state else ".")]
    if interface.state:
        lines.append("@param state  read and updated; unchanged where the call fails")
    if interface.external:
        lines.append(f"@param weights  opened by {p}_weights_open")
    lines += _size_lines(interface)
    lines += [f"@param {o.name}  in: {operand_text(o, interface)}" for o in interface.inputs]
    lines += [f"@param {o.name}  out: {operand_text(o, interface)}" for o in interface.outputs]
    lines += [
        "@param workspace  scratch memory, used by no other call at the same time",
        f"@param workspace_bytes  its size, at least {p}_workspace_size of the same sizes",
        f"@return  {p}_OK, or what is wrong",
    ]
    return f"{comment(lines)}\n" + call_text(f"{p}_status {p}_run(", run_parameters(interface))


def _state_functions(interface: Interface) -> str:
    p = interface.name
    parameters = [f"{p}_state *state"]
    lines = [
        "Give every variable of the state its first value.",
        "@param state  written whole",
    ]
    if interface.external:
        parameters.append(f"const {p}_weights *weights")
        lines.append(f"@param weights  opened by {p}_weights_open")
    lines.append(f"@return  {p}_OK, or what is wrong")
    return "\n".join(
        [
            comment(lines),
            call_text(f"{p}_status {p}_state_init(", parameters),
            "",
            f"/** @return  sizeof({p}_state), as the library was compiled */",
            f"size_t {p}_state_size(void);",
        ]
    )


def _weights_functions(interface: Interface) -> str:
    p = interface.name
    opening = [
        "Map the weights file. Its pages are read when they are first used and shared between "
        "processes; the file must not be changed meanwhile.",
        "@param weights  written",
        f"@param path  of {p}.safetensors as it was written with this library",
        f"@return  {p}_OK, or {p}_BAD_WEIGHTS",
    ]
    return "\n".join(
        [
            comment(opening),
            f"{p}_status {p}_weights_open({p}_weights *weights, const char *path);",
            "",
            comment(
                [
                    "Unmap the weights file; no call may use it any more.",
                    "@param weights  may be NULL or closed",
                ]
            ),
            f"void {p}_weights_close({p}_weights *weights);",
        ]
    )


_CALLABLE = """\
/** What the last argument of {p}_callable points to: memory for one call at a time. */
typedef struct {p}_scratch {{
    void *workspace;
    size_t workspace_bytes; /**< at least {p}_workspace_size */
}} {p}_scratch;

/**
 * The graph as a callback, such as integrators take.
 * @param n  the number of elements of x
 * @param x  in: the elements; not written
 * @param scratch  a {p}_scratch
 * @return  the output, NaN where {p}_run would return a status
 */
double {p}_callable(int n, double *x, void *scratch);"""

_THREADS = """/**
 * Let a call use several threads: the caller's and workers, which are kept for later calls. The
 * default is 1, for which no thread is ever started; fewer than before ends workers, after the call
 * that they work for. Results do not depend on it; the size of the workspace does. Set 1 before the
 * library is unloaded (dlclose): the code of workers must stay where it is. A forked child starts
 * workers of its own.
 * @param threads  1 to 256; other values are brought into this range
 * @return  the number set
 */
int32_t {p}_set_threads(int32_t threads);

/** @return  the number of threads that a call may use */
int32_t {p}_threads(void);"""

_REST = """/**
 * @param status  of any function of this library
 * @return  it in words; a string of the library's, never NULL
 */
const char *{p}_message({p}_status status);

/** @return  the instruction set in use: the best that this processor has, or "none" */
const char *{p}_isa(void);

/**
 * Choose the instruction set, for tests: one that the library was compiled for and the processor
 * has. Not while calls are in flight.
 * @param name  as {p}_isa returns it
 * @return  {p}_OK, or {p}_UNSUPPORTED_CPU
 */
{p}_status {p}_select_isa(const char *name);

/** @return  the version of the interface that the library was compiled with */
int32_t {p}_abi_version(void);"""
