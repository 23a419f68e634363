"""A C program that uses a compiled library, and files that build it (floor 8).

`example.c` shows every step of a call with this library's own names and sizes, and doubles as a
test: it prints a checksum of each output.  `CMakeLists.txt` and `NAME.pc` make the library known to
CMake and pkg-config wherever the folder lies.
"""

from __future__ import annotations

from string import Template

import numpy as np

from graphc.aot.c_text import (
    FLOOR_DIV,
    call_text,
    comment,
    has_quotient,
    plain,
    size_text,
)
from graphc.aot.interface import ABI_VERSION, Interface, Operand, SizeArgument, c_type
from graphc.base.dims import Dim, Size, Symbol
from graphc.base.dtypes import Array, DType, bfloat16

_EIGHTHS: Array = np.arange(1, 8, dtype=np.float32) / 8
_USUAL_SIZE = 4
_SHOWN = 8  # elements of each output


def build_files(interface: Interface, library: str) -> dict[str, str]:
    """`CMakeLists.txt` and `NAME.pc` by file name; library: the file, NAME.so or NAME.a."""
    p = interface.name
    static = library.endswith(".a")
    names = {"p": p, "library": library, "abi": str(ABI_VERSION)}
    names |= {"kind": "STATIC" if static else "SHARED"}
    names |= {"title": plain(interface.title).replace("$", "").replace("#", "") or p}
    names |= {"rpath": "-pthread" if static else "-Wl,-rpath,${pcfiledir}"}
    texts = {"CMakeLists.txt": _CMAKE, f"{p}.pc": _PKG_CONFIG}
    return {file: text.substitute(names) for file, text in texts.items()}


def example_text(interface: Interface) -> str:
    """`example.c`."""
    p = interface.name
    dtypes_in = dict.fromkeys(o.dtype for o in interface.inputs)
    dtypes_out = dict.fromkeys(o.dtype for o in interface.outputs)
    divides = has_quotient(size for o in interface.operands for size in o.shape)
    parts = [
        _introduction(interface),
        f'#include "{p}.h"\n\n'
        "#include <inttypes.h>\n#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>",
        _CHECK.substitute(p=p),
        _ARGUMENTS,
        *([_SIZE_ARGUMENT] if interface.sizes else []),
        *([FLOOR_DIV.rstrip()] if divides else []),
        *([_READ_FILE] if interface.inputs or interface.state else []),
        *([_WRITE_FILE] if interface.state else []),
        *(["\n".join(_pattern(d) for d in dtypes_in) + "\n\n" + _INPUT] if dtypes_in else []),
        *(["\n\n".join(_printer(d) for d in dtypes_out) + "\n\n" + _REPORT] if dtypes_out else []),
        _main(interface),
    ]
    return "\n\n".join(parts) + "\n"


def usual_size(size: SizeArgument) -> int:
    """A small size within the bounds."""
    symbol = size.symbol
    step = symbol.multiple_of
    wanted = -(-max(symbol.min, _USUAL_SIZE) // step) * step
    return wanted if symbol.max is None or wanted <= symbol.max else symbol.max // step * step


def _size_name(interface: Interface, symbol: Symbol) -> str:
    # Suffixes keep the graph's names apart from the program's own.
    return next(f"{s.name}_size" for s in interface.sizes if s.symbol.name == symbol.name)


def _introduction(interface: Interface) -> str:
    p = interface.name
    usage = "".join(f" [{s.name}]" for s in interface.sizes)
    usage += "".join(f" [{o.name}=FILE]" for o in interface.inputs)
    options = ["--threads=N"]
    if interface.state:
        options += ["--steps=N", "--load=FILE", "--save=FILE"]
    options += ["--weights=FILE"] if interface.external else []
    lines = [
        f"example.c: one call of {p}, step by step.",
        "",
        f"./example{usage}{''.join(f' [{o}]' for o in options)}",
        "",
    ]
    if interface.inputs:
        lines.append(
            "An input without a file is made: 1/8, 2/8 ... 7/8, 1/8 ... for floating types, "
            "0, 1, 0, 1 ... for others. A file holds the elements as in memory."
        )
    if interface.state:
        lines.append("--load and --save read and write the state, --steps calls that often.")
    lines.append("Each output is printed with the FNV-1a checksum (64 bits) of its bytes.")
    lines += ["Build:", f"    {build_command(f'{p}.so')}", f"    {build_command(f'{p}.a')}"]
    return comment(lines, start="/*")


def build_command(library: str) -> str:
    """The command that builds the example beside a library NAME.so or NAME.a."""
    needs = "-pthread" if library.endswith(".a") else "'-Wl,-rpath,$ORIGIN'"
    return f"cc -O2 example.c {library} {needs} -o example"


def _pattern(dtype: DType) -> str:
    """The elements that an input without a file repeats."""
    if not dtype.is_float:
        values = ["0", "1"]
    elif dtype.bits == 16:
        words = (
            _EIGHTHS.view(np.uint32) >> 16
            if dtype is bfloat16
            else _EIGHTHS.astype(np.float16).view(np.uint16)
        )
        values = [f"0x{int(w):04X}" for w in words]
    else:
        values = [f"{value}f" if dtype.bits == 32 else f"{value}" for value in _EIGHTHS]
    return f"static const {c_type(dtype)} {dtype.name}_pattern[] = {{{', '.join(values)}}};"


def _printer(dtype: DType) -> str:
    """A function that prints an element; 16-bit floats as their bits."""
    value = f"(({'const ' + c_type(dtype)} *)data)[k]"
    if dtype.is_float and dtype.bits == 16:
        shown = f'printf(" 0x%04X", (unsigned){value});'
    elif dtype.is_float:
        digits = 9 if dtype.bits == 32 else 17
        shown = f'printf(" %.{digits}g", (double){value});'
    elif dtype.kind in "bu":
        shown = f'printf(" %" PRIu64, (uint64_t){value});'
    else:
        shown = f'printf(" %" PRId64, (int64_t){value});'
    return f"static void print_{dtype.name}(const void *data, size_t k)\n{{\n    {shown}\n}}"


class _Main:
    """Writes `main`."""

    def __init__(self, interface: Interface) -> None:
        self.i, self.p = interface, interface.name

    def size(self, size: Size) -> str:
        """A size in the program's variables."""
        return size_text(size, lambda symbol: _size_name(self.i, symbol))

    def count(self, operand: Operand) -> str:
        """How many elements."""
        return self._count(operand.elements)

    def _count(self, size: Size) -> str:
        return f"(size_t)({self.size(size)})" if isinstance(size, Dim) else str(size)

    def text(self) -> str:
        """The function."""
        p = self.p
        return "\n".join(
            [
                "int main(int argc, char **argv)",
                "{",
                *self._sizes(),
                f'    {p}_set_threads((int32_t)number(option(argc, argv, "--threads"), 1));',
                *self._files(),
                "",
                *self._workspace(),
                "",
                *self._arrays(),
                *self._unknown(),
                *self._state(),
                *self._call(),
                *self._results(),
                *self._end(),
                "}",
            ]
        )

    def _sizes(self) -> list[str]:
        if not self.i.sizes:
            return []
        return [
            "    /* Sizes: the first arguments. */",
            *(
                f"    const int64_t {s.name}_size = "
                f"size_argument(argc, argv, {k + 1}, {usual_size(s)});"
                for k, s in enumerate(self.i.sizes)
            ),
        ]

    def _files(self) -> list[str]:
        lines = []
        if self.i.state:
            lines += [
                '    const long long steps = number(option(argc, argv, "--steps"), 1);',
                '    const char *load = option(argc, argv, "--load");',
                '    const char *save = option(argc, argv, "--save");',
            ]
        if self.i.external:
            lines.append('    const char *file = option(argc, argv, "--weights");')
        return lines

    def _workspace(self) -> list[str]:
        sizes = [f"{s.name}_size" for s in self.i.sizes]
        return [
            "    /* Scratch memory for any number of calls of these sizes; 0 for wrong sizes. */",
            call_text(f"    const size_t bytes = {self.p}_workspace_size(", sizes, " " * 8),
            "    if (bytes == 0) {",
            f'        fprintf(stderr, "a size is out of bounds (see {self.p}.h), '
            'or no code for this processor\\n");',
            "        return 1;",
            "    }",
            "    void *workspace = allocate(bytes);",
        ]

    def _arrays(self) -> list[str]:
        lines = []
        for o in self.i.inputs:
            lines.append(
                call_text(
                    f"    {c_type(o.dtype)} *{o.name}_in = input(",
                    [
                        f'option(argc, argv, "{o.name}")',
                        f"{self.count(o)} * sizeof *{o.name}_in",
                        f"{o.dtype.name}_pattern",
                        f"sizeof {o.dtype.name}_pattern",
                    ],
                    " " * 8,
                )
            )
        lines += [
            f"    {c_type(o.dtype)} *{o.name}_out = "
            f"allocate({self.count(o)} * sizeof *{o.name}_out);"
            for o in self.i.outputs
        ]
        return lines

    @staticmethod
    def _unknown() -> list[str]:
        return [
            "    if (used != argc - 1) {",
            '        fprintf(stderr, "an argument is unknown: see the top of example.c\\n");',
            "        return 2;",
            "    }",
        ]

    def _state(self) -> list[str]:
        p = self.p
        lines = [""] if self.i.state or self.i.external else []
        if self.i.external:
            lines += [
                f"    {p}_weights weights;",
                f'    check({p}_weights_open(&weights, file ? file : "{p}.safetensors"));',
            ]
        if self.i.state:
            second = ", &weights" if self.i.external else ""
            lines += [
                f"    {p}_state *state = allocate(sizeof *state);",
                f"    check({p}_state_init(state{second}));",
                "    if (load) {",
                "        read_file(load, state, sizeof *state);",
                "    }",
            ]
        return lines

    def _call(self) -> list[str]:
        arguments = ["state"] if self.i.state else []
        arguments += ["&weights"] if self.i.external else []
        arguments += [f"{s.name}_size" for s in self.i.sizes]
        arguments += [f"{o.name}_in" for o in self.i.inputs]
        arguments += [f"{o.name}_out" for o in self.i.outputs]
        arguments += ["workspace", "bytes"]
        if not self.i.state:
            return ["", call_text(f"    check({self.p}_run(", arguments, " " * 8, "));")]
        return [
            "    for (long long step = 0; step < steps; step++) {",
            call_text(f"        check({self.p}_run(", arguments, " " * 12, "));"),
            "    }",
            "    if (save) {",
            "        write_file(save, state, sizeof *state);",
            "    }",
        ]

    def _results(self) -> list[str]:
        lines = []
        for o in self.i.outputs:
            shape = ", ".join(
                '%" PRId64 "' if isinstance(size, Dim) else str(size) for size in o.shape
            )
            title = f'"{o.name}: {o.dtype.name} [{shape}]"'.replace(' ""', "").replace('"" ', "")
            values = [self.size(size) for size in o.shape if isinstance(size, Dim)]
            lines += [
                "",
                call_text("    printf(", [title, *values], " " * 8),
                f"    report({o.name}_out, {self.count(o)}, sizeof *{o.name}_out, "
                f"print_{o.dtype.name});",
            ]
        return lines

    def _end(self) -> list[str]:
        held = [f"{o.name}_out" for o in reversed(self.i.outputs)]
        held += [f"{o.name}_in" for o in reversed(self.i.inputs)]
        held += ["workspace"] + (["state"] if self.i.state else [])
        lines = ["", *(f"    free({name});" for name in held)]
        if self.i.external:
            lines.append(f"    {self.p}_weights_close(&weights);")
        return [
            *lines,
            f"    {self.p}_set_threads(1); /* ends the workers */",
            "    return 0;",
        ]


def _main(interface: Interface) -> str:
    return _Main(interface).text()


_CHECK = Template("""\
/* Every function that can fail returns a status. */
static void check(${p}_status status)
{
    if (status != ${p}_OK) {
        fprintf(stderr, "$p: %s\\n", ${p}_message(status));
        exit(1);
    }
}

static void *allocate(size_t bytes)
{
    void *memory = malloc(bytes ? bytes : 1);
    if (!memory) {
        fprintf(stderr, "no memory for %zu bytes\\n", bytes);
        exit(1);
    }
    return memory;
}""")

_ARGUMENTS = """\
/* The arguments that somebody has asked for. */
static int used = 0;

/* What follows `name=` among the arguments, or NULL. */
static const char *option(int argc, char **argv, const char *name)
{
    const size_t length = strlen(name);
    for (int k = 1; k < argc; k++) {
        if (strncmp(argv[k], name, length) == 0 && argv[k][length] == '=') {
            used++;
            return argv[k] + length + 1;
        }
    }
    return NULL;
}

static long long number(const char *text, long long otherwise)
{
    char *end = NULL;
    const long long value = text ? strtoll(text, &end, 10) : otherwise;
    if (text && (end == text || *end)) {
        fprintf(stderr, "not a number: %s\\n", text);
        exit(2);
    }
    return value;
}"""

_SIZE_ARGUMENT = """\
static int64_t size_argument(int argc, char **argv, int place, int64_t otherwise)
{
    if (place >= argc || strchr(argv[place], '=')) {
        return otherwise;
    }
    used++;
    return number(argv[place], 0);
}"""

_READ_FILE = """\
static void read_file(const char *path, void *memory, size_t bytes)
{
    FILE *file = fopen(path, "rb");
    const size_t got = file ? fread(memory, 1, bytes, file) : 0;
    if (!file || got != bytes || fgetc(file) != EOF) {
        fprintf(stderr, "%s: cannot be read, or does not hold %zu bytes\\n", path, bytes);
        exit(1);
    }
    fclose(file);
}"""

_WRITE_FILE = """\
static void write_file(const char *path, const void *memory, size_t bytes)
{
    FILE *file = fopen(path, "wb");
    const size_t put = file ? fwrite(memory, 1, bytes, file) : 0;
    if (!file || put != bytes || fclose(file) != 0) {
        fprintf(stderr, "%s: cannot be written\\n", path);
        exit(1);
    }
}"""

_INPUT = """\
/* An input: the bytes of a file, or else a pattern again and again. */
static void *input(const char *path, size_t bytes, const void *pattern, size_t pattern_bytes)
{
    unsigned char *memory = allocate(bytes);
    if (path) {
        read_file(path, memory, bytes);
    } else {
        for (size_t k = 0; k < bytes; k++) {
            memory[k] = ((const unsigned char *)pattern)[k % pattern_bytes];
        }
    }
    return memory;
}"""

_REPORT = f"""\
/* The first elements, and a checksum of all bytes. */
static void report(const void *data, size_t count, size_t size, void (*print)(const void *, size_t))
{{
    for (size_t k = 0; k < count && k < {_SHOWN}; k++) {{
        print(data, k);
    }}
    uint64_t hash = UINT64_C(14695981039346656037);
    for (size_t k = 0; k < count * size; k++) {{
        hash = (hash ^ ((const unsigned char *)data)[k]) * UINT64_C(1099511628211);
    }}
    printf("%s  fnv1a %016" PRIx64 "\\n", count > {_SHOWN} ? " ..." : "", hash);
}}"""

_CMAKE = Template("""\
# The library as a CMake target, graphc::$p, and the example that uses it:
#   cmake -S . -B build && cmake --build build && build/example
# In another project: add_subdirectory(<this folder>), target_link_libraries(app graphc::$p).
cmake_minimum_required(VERSION 3.13)
project(${p}_library LANGUAGES C)

set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)
add_library(graphc::$p $kind IMPORTED GLOBAL)
set_target_properties(graphc::$p PROPERTIES
  IMPORTED_LOCATION "$${CMAKE_CURRENT_SOURCE_DIR}/$library"
  INTERFACE_INCLUDE_DIRECTORIES "$${CMAKE_CURRENT_SOURCE_DIR}"
  INTERFACE_LINK_LIBRARIES Threads::Threads)

if(CMAKE_SOURCE_DIR STREQUAL CMAKE_CURRENT_SOURCE_DIR)
  add_executable(${p}_example example.c)
  set_target_properties(${p}_example PROPERTIES
    OUTPUT_NAME example C_STANDARD 99 C_STANDARD_REQUIRED ON)
  target_link_libraries(${p}_example PRIVATE graphc::$p)
endif()
""")

_PKG_CONFIG = Template("""\
# Works where the folder lies, without white space in its path:
#   PKG_CONFIG_PATH=<this folder> pkg-config --cflags --libs $p
Name: $p
Description: compiled graph $title
Version: $abi
Cflags: -I$${pcfiledir}
Libs: -L$${pcfiledir} -l:$library $rpath
""")
