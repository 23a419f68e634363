"""The C++ binding of a compiled library (floor 8): `NAME.hpp`, one header for C++17.

`graphc::NAME::call` holds sizes and workspace, `state` and `weights` own what C leaves to the
caller; every status other than success becomes an exception.
"""

from __future__ import annotations

from string import Template

from graphc.aot.c_text import (
    FLOOR_DIV,
    call_text,
    has_quotient,
    names_for,
    plain,
    shape_text,
    size_text,
    symbol_names,
)
from graphc.aot.interface import Interface, Operand, c_type
from graphc.base.dims import Dim, Symbol

# Of the class `call`: a parameter of such a name would hide it.
_MEMBERS = frozenset({"call", "memory", "run"})


def cpp_text(interface: Interface) -> str:
    """`NAME.hpp`."""
    p = interface.name
    divides = has_quotient(o.elements for o in interface.operands)
    parts = [
        _HEAD.substitute(p=p, title=plain(interface.title)),
        *(["inline " + FLOOR_DIV.removeprefix("static ").rstrip()] if divides else []),
        *([_WEIGHTS.substitute(p=p).rstrip()] if interface.external else []),
        *([_state(interface)] if interface.state else []),
        _call(interface),
        f"}} // namespace {p}\n}} // namespace graphc",
        f"#endif // GRAPHC_{p}_HPP",
    ]
    return "\n\n".join(parts) + "\n"


def _state(interface: Interface) -> str:
    external = interface.external
    return _STATE.substitute(
        p=interface.name,
        parameter="const weights &file" if external else "",
        argument=", file.get()" if external else "",
        explicit="explicit " if external else "",
    ).rstrip()


def _call(interface: Interface) -> str:
    p = interface.name
    own = names_for(interface, _MEMBERS)
    names = [own(s.name) for s in interface.sizes]
    sizes = [f"int64_t {name}" for name in names]
    first = "".join(f"{s.name}_size({own(s.name)}), " for s in interface.sizes)
    lines = [
        "/// Calls with the same sizes, one after the other; one object for each thread.",
        "class call {",
        "public:",
        f"    {'explicit ' if len(sizes) == 1 else ''}call({', '.join(sizes)})",
        f"        : {first}memory({p}_workspace_size({', '.join(names)}))",
        "    {",
        "        if (memory.empty()) {",
        f'            throw std::invalid_argument("{p}: sizes out of bounds, or no code for this '
        'processor");',
        "        }",
        "    }",
        "",
    ]
    for o in interface.operands:
        lines += [
            f"    /// Elements of {o.name}: {plain(shape_text(o, symbol_names(interface)))}.",
            f"    std::size_t {o.name}_count() const {{ return {_count(o, interface)}; }}",
        ]
    lines += ["", *_run(interface), "", "private:"]
    lines += [f"    int64_t {s.name}_size;" for s in interface.sizes]
    return "\n".join([*lines, "    std::vector<unsigned char> memory;", "};"])


def _count(o: Operand, interface: Interface) -> str:
    names = symbol_names(interface)

    def name(symbol: Symbol) -> str:
        return f"{names(symbol)}_size"

    text = size_text(o.elements, name)
    return f"static_cast<std::size_t>({text})" if isinstance(o.elements, Dim) else text


def _run(interface: Interface) -> list[str]:
    p = interface.name
    parameters = ["state &variables"] if interface.state else []
    parameters += ["const weights &file"] if interface.external else []
    parameters += [f"span<const {c_type(o.dtype)}> {o.name}_in" for o in interface.inputs]
    parameters += [f"span<{c_type(o.dtype)}> {o.name}_out" for o in interface.outputs]
    arguments = ["variables.get()"] if interface.state else []
    arguments += ["file.get()"] if interface.external else []
    arguments += [f"{s.name}_size" for s in interface.sizes]
    arguments += [f"{o.name}_in.data()" for o in interface.inputs]
    arguments += [f"{o.name}_out.data()" for o in interface.outputs]
    arguments += ["memory.data()", "memory.size()"]
    lines = [
        "    /// Throws std::invalid_argument for a wrong number of elements, error for a status.",
        call_text("    void run(", parameters, " " * 8, ")"),
        "    {",
    ]
    for suffix, operands in (("in", interface.inputs), ("out", interface.outputs)):
        lines += [
            f'        expect("{o.name}", {o.name}_{suffix}.size(), {o.name}_count());'
            for o in operands
        ]
    return [*lines, call_text(f"        check({p}_run(", arguments, " " * 12, "));"), "    }"]


_HEAD = Template("""\
// $p.hpp: the compiled graph $title for C++17, over $p.h.
#ifndef GRAPHC_${p}_HPP
#define GRAPHC_${p}_HPP

#include "$p.h"

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <memory>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace graphc {
namespace $p {

/// A status other than success.
class error : public std::runtime_error {
public:
    explicit error(${p}_status code) : std::runtime_error(${p}_message(code)), status(code) {}
    const ${p}_status status;
};

inline void check(${p}_status code)
{
    if (code != ${p}_OK) {
        throw error(code);
    }
}

inline void expect(const char *name, std::size_t got, std::size_t wanted)
{
    if (got != wanted) {
        throw std::invalid_argument(std::string(name) + ": expected " + std::to_string(wanted) +
                                    " elements, got " + std::to_string(got));
    }
}

/// Elements that somebody else owns: of a vector, an array, or a pointer with a count.
template <class T> class span {
public:
    span(T *first, std::size_t count) : first_(first), count_(count) {}
    template <class C, class = std::enable_if_t<std::is_convertible_v<
                           decltype(std::declval<C &>().data()), T *>>>
    span(C &&container) : first_(container.data()), count_(container.size()) {}
    T *data() const { return first_; }
    std::size_t size() const { return count_; }

private:
    T *first_;
    std::size_t count_;
};""")

_WEIGHTS = Template("""\
/// The mapped weights file.
class weights {
public:
    explicit weights(const std::string &path = "$p.safetensors")
    {
        check(${p}_weights_open(&handle, path.c_str()));
    }
    ~weights() { ${p}_weights_close(&handle); }
    weights(const weights &) = delete;
    weights &operator=(const weights &) = delete;
    const ${p}_weights *get() const { return &handle; }

private:
    ${p}_weights handle = {nullptr};
};
""")

_STATE = Template("""\
/// The variables that a call updates.
class state {
public:
    ${explicit}state($parameter) : members(new ${p}_state)
    {
        check(${p}_state_init(members.get()$argument));
    }
    state(const state &other) : members(new ${p}_state(*other.members)) {}
    state(state &&) = default;
    state &operator=(state other)
    {
        members.swap(other.members);
        return *this;
    }
    ${p}_state *get() { return members.get(); }
    ${p}_state *operator->() { return members.get(); }
    const ${p}_state *operator->() const { return members.get(); }

    void save(const std::string &path) const
    {
        std::ofstream file(path, std::ios::binary);
        file.write(reinterpret_cast<const char *>(members.get()), sizeof *members);
        file.close();
        if (!file) {
            throw std::runtime_error(path + ": cannot be written");
        }
    }

    /// Reads what save wrote; the state stays as it is where that fails.
    void load(const std::string &path)
    {
        std::unique_ptr<${p}_state> read(new ${p}_state);
        std::ifstream file(path, std::ios::binary);
        const bool whole = static_cast<bool>(
            file.read(reinterpret_cast<char *>(read.get()), sizeof *read));
        if (!whole || file.peek() != EOF || read->graphc_layout != members->graphc_layout) {
            throw std::runtime_error(path + ": not a state of $p");
        }
        members.swap(read);
    }

private:
    std::unique_ptr<${p}_state> members;
};
""")
