"""The Rust binding of a compiled library (floor 8): a crate in the folder `rust`.

`src/lib.rs` declares the C functions and wraps them: slices are measured before their addresses go
to C, so that the safe functions are safe.
"""

from __future__ import annotations

from collections.abc import Callable
from string import Template

from graphc.aot.c_text import names_for, plain, shape_text, size_text, symbol_names
from graphc.aot.interface import STATUSES, Interface, Operand
from graphc.base.dims import Dim, Symbol
from graphc.base.dtypes import DType

_TYPES = {"bool": "bool", "float16": "u16", "bfloat16": "u16", "float32": "f32", "float64": "f64"}
_CODE = {name: code for name, code, _ in STATUSES}
_WORDS = frozenset(
    "abstract as async await become box break const continue crate do dyn else enum extern false "
    "final fn for gen if impl in let loop macro match mod move mut override priv pub ref return "
    "self static struct super trait true try type typeof union unsafe unsized use virtual where "
    "while yield Self "
    # what cannot be a parameter, as a pattern would mean it, and what the generated code uses
    "None Some Ok Err Error BAD_SIZE check wrong bytes".split()
)


def rust_files(interface: Interface) -> dict[str, str]:
    """`rust/Cargo.toml`, `rust/build.rs` and `rust/src/lib.rs`, by path."""
    names = {"p": interface.name, "crate": interface.name.lower()}
    return {
        "rust/Cargo.toml": _CARGO.substitute(names),
        "rust/build.rs": _BUILD.substitute(names),
        "rust/src/lib.rs": _library(interface),
    }


def rust_type(dtype: DType) -> str:
    """The type of one stored element; 16-bit floats are their bits."""
    return _TYPES.get(dtype.name) or f"{dtype.kind}{dtype.bits}"


def _names(interface: Interface) -> Callable[[str], str]:
    """C names in Rust; a parameter must not hide a function of the library."""
    functions = (f"{interface.name}_{name}" for name in ("workspace_size", "run", "message"))
    return names_for(interface, {*_WORDS, *functions})


def _library(interface: Interface) -> str:
    p = interface.name
    parts = [
        f"//! The compiled graph {plain(interface.title)}, over the C library {p}.so.\n"
        "#![allow(non_camel_case_types, non_snake_case, clippy::too_many_arguments)]",
        "use std::ffi::{c_char, c_void, CStr};"
        + ("\nuse std::ffi::CString;" if interface.external else ""),
        *([_state_type(interface)] if interface.state else []),
        *([_WEIGHTS_TYPE] if interface.external else []),
        _declarations(interface),
        _ERROR.substitute(p=p, bad_size=_CODE["BAD_SIZE"]).rstrip(),
        *([_weights(interface)] if interface.external else []),
        *([_state(interface)] if interface.state else []),
        _call(interface),
    ]
    return "\n\n".join(parts) + "\n"


def _state_type(interface: Interface) -> str:
    rust = _names(interface)
    lines = [
        "/// The variables that a call updates.",
        "#[repr(C)]",
        "#[derive(Clone)]",
        "pub struct State {",
        "    graphc_layout: u64,",
    ]
    for m in interface.state:
        kind = rust_type(m.dtype)
        for n in reversed(m.shape):
            kind = f"[{kind}; {n}]"
        if m.elements != 0:
            lines.append(f"    pub {rust(m.name)}: {kind},")
    return "\n".join([*lines, "}"])


def _foreign(interface: Interface) -> list[str]:
    """The parameters of NAME_run."""
    rust = _names(interface)
    parameters = ["state: *mut State"] if interface.state else []
    parameters += ["weights: *const Handle"] if interface.external else []
    parameters += [f"{rust(s.name)}: i64" for s in interface.sizes]
    parameters += [f"{rust(o.name)}: *const {rust_type(o.dtype)}" for o in interface.inputs]
    parameters += [f"{rust(o.name)}: *mut {rust_type(o.dtype)}" for o in interface.outputs]
    return [*parameters, "workspace: *mut c_void", "workspace_bytes: usize"]


def _declarations(interface: Interface) -> str:
    p, rust = interface.name, _names(interface)
    sizes = ", ".join(f"{rust(s.name)}: i64" for s in interface.sizes)
    lines = [
        'extern "C" {',
        f"    fn {p}_workspace_size({sizes}) -> usize;",
        f"    fn {p}_run({', '.join(_foreign(interface))}) -> i32;",
        f"    fn {p}_message(status: i32) -> *const c_char;",
        f"    fn {p}_set_threads(threads: i32) -> i32;",
        f"    fn {p}_isa() -> *const c_char;",
    ]
    if interface.state:
        second = ", weights: *const Handle" if interface.external else ""
        lines.append(f"    fn {p}_state_init(state: *mut State{second}) -> i32;")
    if interface.external:
        lines += [
            f"    fn {p}_weights_open(weights: *mut Handle, path: *const c_char) -> i32;",
            f"    fn {p}_weights_close(weights: *mut Handle);",
        ]
    return "\n".join([*lines, "}"])


def _state(interface: Interface) -> str:
    p = interface.name
    parameter, argument = ("weights: &Weights", ", &weights.0") if interface.external else ("", "")
    return "\n".join(
        [
            "impl State {",
            "    /// The first values.",
            f"    pub fn new({parameter}) -> Result<Box<State>, Error> {{",
            "        let mut state = Box::new(std::mem::MaybeUninit::<State>::zeroed());",
            "        // Every type of a member has zero among its values, so this is a State.",
            f"        check(unsafe {{ {p}_state_init(state.as_mut_ptr(){argument}) }})?;",
            "        Ok(unsafe { Box::from_raw(Box::into_raw(state).cast::<State>()) })",
            "    }",
            "}",
        ]
    )


def _weights(interface: Interface) -> str:
    return _WEIGHTS.substitute(p=interface.name, code=_CODE["BAD_WEIGHTS"]).rstrip()


def _size(o: Operand, interface: Interface) -> str:
    names, rust = symbol_names(interface), _names(interface)

    def name(symbol: Symbol) -> str:
        return f"self.{rust(names(symbol))}"

    def divide(a: str, b: str) -> str:
        return f"{f'({a})' if not a.isidentifier() else a}.div_euclid({b})"

    text = size_text(o.elements, name, divide)
    if not isinstance(o.elements, Dim):
        return text
    return f"({text}) as usize" if " " in text else f"{text} as usize"


def _call(interface: Interface) -> str:
    p, rust = interface.name, _names(interface)
    names = [rust(s.name) for s in interface.sizes]
    sizes = ", ".join(f"{n}: i64" for n in names)
    lines = [
        "/// Calls with the same sizes, one after the other; one for each thread.",
        "pub struct Call {",
        *(f"    {n}: i64," for n in names),
        "    workspace: Vec<u8>,",
        "}",
        "",
        "impl Call {",
        "    /// Fails where a size is out of its bounds.",
        f"    pub fn new({sizes}) -> Result<Call, Error> {{",
        f"        let bytes = unsafe {{ {p}_workspace_size({', '.join(names)}) }};",
        "        if bytes == 0 {",
        "            return Err(Error(BAD_SIZE));",
        "        }",
        f"        Ok(Call {{ {''.join(f'{n}, ' for n in names)}workspace: vec![0; bytes] }})",
        "    }",
        "",
    ]
    for o in interface.operands:
        lines += [
            f"    /// Elements of {o.name}: {plain(shape_text(o, symbol_names(interface)))}.",
            f"    pub fn {o.name}_count(&self) -> usize {{",
            f"        {_size(o, interface)}",
            "    }",
            "",
        ]
    return "\n".join([*lines, *_run(interface), "}"])


def _run(interface: Interface) -> list[str]:
    p, rust = interface.name, _names(interface)
    parameters = ["&mut self"]
    parameters += ["state: &mut State"] if interface.state else []
    parameters += ["weights: &Weights"] if interface.external else []
    parameters += [f"{rust(o.name)}: &[{rust_type(o.dtype)}]" for o in interface.inputs]
    parameters += [f"{rust(o.name)}: &mut [{rust_type(o.dtype)}]" for o in interface.outputs]
    arguments = ["state"] if interface.state else []
    arguments += ["&weights.0"] if interface.external else []
    arguments += [f"self.{rust(s.name)}" for s in interface.sizes]
    arguments += [f"{rust(o.name)}.as_ptr()" for o in interface.inputs]
    arguments += [f"{rust(o.name)}.as_mut_ptr()" for o in interface.outputs]
    arguments += ["self.workspace.as_mut_ptr().cast()", "self.workspace.len()"]
    lengths = [f"{rust(o.name)}.len() != self.{o.name}_count()" for o in interface.operands]
    return [
        "    /// Fails where a slice has another number of elements, or as the library says.",
        "    pub fn run(",
        *(f"        {parameter}," for parameter in parameters),
        "    ) -> Result<(), Error> {",
        *(
            [
                "        let wrong = " + "\n            || ".join(lengths) + ";",
                "        if wrong {",
                "            return Err(Error(BAD_SIZE));",
                "        }",
            ]
            if lengths
            else []
        ),
        f"        check(unsafe {{ {p}_run({', '.join(arguments)}) }})",
        "    }",
    ]


_CARGO = Template("""\
[package]
name = "$crate"
version = "0.1.0"
edition = "2021"
publish = false

[lib]
path = "src/lib.rs"
""")

_BUILD = Template("""\
// Links $p.so from the folder above this crate.
fn main() {
    let here = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
    let folder = std::path::Path::new(&here).parent().expect("a folder above").to_owned();
    println!("cargo:rustc-link-search=native={}", folder.display());
    println!("cargo:rustc-link-lib=dylib:+verbatim=$p.so");
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", folder.display());
}
""")

_ERROR = Template("""\
const BAD_SIZE: i32 = $bad_size;

/// A status other than success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error(pub i32);

impl std::fmt::Display for Error {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = unsafe { CStr::from_ptr(${p}_message(self.0)) };
        out.write_str(&text.to_string_lossy())
    }
}

impl std::error::Error for Error {}

fn check(status: i32) -> Result<(), Error> {
    if status == 0 {
        Ok(())
    } else {
        Err(Error(status))
    }
}

/// Let a call use up to 256 threads (the default is 1); returns the number set.
pub fn set_threads(threads: i32) -> i32 {
    unsafe { ${p}_set_threads(threads) }
}

/// The instruction set in use.
pub fn isa() -> String {
    unsafe { CStr::from_ptr(${p}_isa()) }.to_string_lossy().into_owned()
}
""")

_WEIGHTS_TYPE = """\
#[repr(C)]
struct Handle {
    base: *const c_void,
}"""

_WEIGHTS = Template("""\
/// The mapped weights file.
pub struct Weights(Handle);

// The mapping is only read.
unsafe impl Send for Weights {}
unsafe impl Sync for Weights {}

impl Weights {
    /// Fails where the file is not the one of this library.
    pub fn open(path: &str) -> Result<Weights, Error> {
        let mut handle = Handle { base: std::ptr::null() };
        let path = CString::new(path).map_err(|_| Error($code))?;
        check(unsafe { ${p}_weights_open(&mut handle, path.as_ptr()) })?;
        Ok(Weights(handle))
    }
}

impl Drop for Weights {
    fn drop(&mut self) {
        unsafe { ${p}_weights_close(&mut self.0) }
    }
}
""")
