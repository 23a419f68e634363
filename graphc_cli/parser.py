"""The grammar of the command line: what each command takes, with an example in its help.

Standard library only, so that `--help` is quick. Values are checked here as far as that needs no
model; a wrong one is a usage error (exit code 2).
"""

from __future__ import annotations

import argparse
import importlib.util
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

STAGES = ("graph", "optimized", "regions", "loops", "llvm", "assembly", "memory")
NUMERICS = ("exact", "standard", "fast")
EMIT = ("c-library", "static", "executable", "object", "llvm", "ptx")
SHELLS = ("bash", "zsh", "fish")
VIEWS = ("html", "dot", "json")

_MODEL = "a .graphc file, a text graph (as str(graph) writes it), or - for a text graph from stdin"
_CODES = "exit codes: 0 success, 1 failure, 2 a wrong command line"


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors end with the way to the help."""

    def error(self, message: str) -> NoReturn:
        """Print the mistake and where help is, and exit with code 2."""
        self.exit(2, f"{self.prog}: usage error: {message}\n  hint: {self.prog} --help\n")


class _Version(argparse.Action):
    """Prints the version, read without importing graphc."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any, **__: Any) -> None:
        print(f"graphc {version()}")
        parser.exit()


def version() -> str:
    """graphc's version, from the text of its module."""
    spec = importlib.util.find_spec("graphc")
    if spec is None or not spec.submodule_search_locations:
        return "unknown"
    text = (Path(spec.submodule_search_locations[0]) / "version.py").read_text(encoding="utf-8")
    found = re.search(r'__version__ = "([^"]+)"', text)
    return found.group(1) if found else "unknown"


# -- values -----------------------------------------------------------------------------------


def assignment(text: str) -> tuple[str, str]:
    """`name=value`."""
    name, sign, value = text.partition("=")
    if not (name and sign and value):
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, got {text!r}")
    return name, value


def feed(text: str) -> tuple[str, str]:
    """`name=value`, or an .npz file, whose arrays have names (the name is then empty)."""
    return ("", text) if "=" not in text and text.endswith(".npz") else assignment(text)


def dim(text: str) -> tuple[str, int]:
    """`name=size`."""
    name, value = assignment(text)
    if not value.isdecimal():
        raise argparse.ArgumentTypeError(f"expected NAME=SIZE with a size of at least 0: {text!r}")
    return name, int(value)


def positive(text: str) -> int:
    """A whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return int(text)


def seconds(text: str) -> float:
    """A duration above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number of seconds above 0, got {text!r}")
    return value


def one_or_more(allowed: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    """Words of `allowed`, separated by commas, or `all`."""

    def read(text: str) -> tuple[str, ...]:
        words = tuple(allowed) if text == "all" else tuple(text.split(","))
        for word in words:
            if word not in allowed:
                known = ", ".join((*allowed, "all"))
                raise argparse.ArgumentTypeError(f"{word!r} is not one of {known}")
        return words

    return read


# -- commands ---------------------------------------------------------------------------------


def build() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser = Parser(
        prog="graphc",
        description="Run, inspect, compile and check computation graphs.",
        epilog=f"graphc COMMAND --help shows a command's options with an example; {_CODES}",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for add in (_run, _inspect, _compile, _export, _explain, _opt, _bench, _verify, _view):
        add(commands)
    _completion(commands)
    return parser


def _command(commands: Any, name: str, what: str, examples: str, *, model: bool = True) -> Any:
    shown = "\n".join(f"  {line.strip()}" for line in examples.strip().splitlines())
    parser = commands.add_parser(
        name,
        help=what,
        description=what[0].upper() + what[1:] + ".",
        epilog=f"example:\n{shown}\n\n{_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if model:
        parser.add_argument("model", metavar="MODEL", help=_MODEL)
    parser.add_argument(
        "--traceback", action="store_true", help="show Python's traceback on errors"
    )
    parser.add_argument(
        "-v", "--verbose", action="count", default=0, help="log to stderr; -vv logs more"
    )
    return parser


def _json(parser: Any) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON for machines")


def _numerics(parser: Any) -> None:
    parser.add_argument(
        "--numerics",
        choices=NUMERICS,
        default="standard",
        help="what the compiler may do to the bits (default: %(default)s)",
    )


def _dims(parser: Any) -> None:
    parser.add_argument(
        "--dim",
        type=dim,
        action="append",
        default=[],
        metavar="NAME=SIZE",
        help="the size of a symbolic dim; may be repeated",
    )


def _inputs(parser: Any) -> None:
    parser.add_argument(
        "--feed",
        type=feed,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an input: a .npy file, FILE.npz:KEY, a number or a list such as [1,2]; or FILE.npz "
        "alone for all arrays in it; may be repeated",
    )
    _dims(parser)
    parser.add_argument("--seed", type=int, default=0, help="of random inputs (default: 0)")
    parser.add_argument("--threads", type=positive, help="threads (default: all processors)")


def _run(commands: Any) -> None:
    parser = _command(
        commands,
        "run",
        "run a graph and print a table of its outputs",
        """graphc run digits.graphc --feed x=x.npy --output y=y.npy
        graphc run model.g --random --dim batch=32""",
    )
    _inputs(parser)
    parser.add_argument("--random", action="store_true", help="make the inputs that are not fed")
    parser.add_argument(
        "--output",
        type=assignment,
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="write an output to a .npy file; may be repeated",
    )
    _numerics(parser)
    parser.add_argument(
        "--check-numerics", action="store_true", help="stop at the first NaN or infinity"
    )
    parser.add_argument(
        "--updates-to",
        metavar="FILE",
        help="write the graph with its variables' new values (.graphc, or text for another name)",
    )
    _json(parser)


def _inspect(commands: Any) -> None:
    parser = _command(
        commands,
        "inspect",
        "show inputs, outputs, variables, op counts and work of a graph",
        "graphc inspect digits.graphc --dim batch=128",
    )
    _dims(parser)
    _json(parser)


def _compile(commands: Any) -> None:
    parser = _command(
        commands,
        "compile",
        "compile a graph ahead of time, for programs without Python",
        """graphc compile digits.graphc -o build/digits
        graphc compile digits.graphc -o build --target aarch64-linux --emit static""",
    )
    parser.add_argument("-o", "--out", required=True, metavar="DIR", help="folder of the results")
    parser.add_argument(
        "--target",
        default="host",
        help="native (this processor), host (all instruction sets of this architecture), "
        "x86-64-v3, aarch64-linux, … (default: %(default)s)",
    )
    parser.add_argument("--emit", choices=EMIT, default="c-library", help="(default: %(default)s)")
    parser.add_argument(
        "--name", help="of the library and its C names (default: MODEL's, or the folder's)"
    )
    parser.add_argument(
        "--weights",
        choices=("inside", "external"),
        default="inside",
        help="values of variables in the library or in a file beside it (default: %(default)s)",
    )
    parser.add_argument(
        "--bindings",
        type=one_or_more(("python", "cpp", "rust", "scipy")),
        default=(),
        metavar="LANGUAGE,…",
        help="also write bindings: python, cpp, rust, scipy",
    )
    parser.add_argument("--max-size", type=positive, metavar="BYTES", help="fail above this size")
    parser.add_argument("--linker", metavar="PATH", help="the linker to use")
    parser.add_argument(
        "--check-numerics", action="store_true", help="calls stop at the first NaN or infinity"
    )
    _numerics(parser)
    _json(parser)


def _explain(commands: Any) -> None:
    parser = _command(
        commands,
        "explain",
        "show what the compiler made of a graph, stage by stage",
        """graphc explain digits.graphc --stage regions
        graphc explain model.g --stage assembly --kernel add_max""",
    )
    parser.add_argument("--stage", choices=STAGES, default="regions", help="(default: %(default)s)")
    parser.add_argument("--kernel", metavar="NAME", help="only this region or kernel")
    _numerics(parser)
    _json(parser)


def _opt(commands: Any) -> None:
    parser = _command(
        commands,
        "opt",
        "run passes over a graph and print the result as a text graph",
        """graphc opt model.g --passes canonicalize,fold-constants{limit_bytes=4096} --log
        graphc opt model.g | graphc run - --random""",
        model=False,
    )
    parser.add_argument("model", metavar="MODEL", nargs="?", help=_MODEL)
    parser.add_argument(
        "--passes", metavar="NAME,…", help="passes in order (default: those of the compiler)"
    )
    parser.add_argument(
        "--print-after",
        action="append",
        default=[],
        metavar="NAME",
        help="print the graph after this pass, or after all, to stderr; may be repeated",
    )
    parser.add_argument("--log", action="store_true", help="print every rewrite to stderr")
    parser.add_argument("--list-passes", action="store_true", help="print the passes and exit")
    parser.add_argument("--list-rules", action="store_true", help="print the rules and exit")
    parser.add_argument("-o", "--out", metavar="FILE", help="write the result here, not to stdout")
    _numerics(parser)
    _json(parser)


def _bench(commands: Any) -> None:
    parser = _command(
        commands,
        "bench",
        "time a compiled graph on random inputs",
        """graphc bench digits.graphc --dim batch=128 --threads 1 --profile
        graphc bench model.g --dim batch=1 --seconds 5 --trace trace.json""",
    )
    _inputs(parser)
    parser.add_argument(
        "--seconds", type=seconds, default=1.0, help="how long to measure (default: 1)"
    )
    parser.add_argument("--profile", action="store_true", help="time of every kernel")
    parser.add_argument("--trace", metavar="FILE", help="write the kernels as a Chrome trace")
    _numerics(parser)
    _json(parser)


def _verify(commands: Any) -> None:
    parser = _command(
        commands,
        "verify",
        "check the compiled result against the reference meaning",
        """graphc verify digits.graphc --samples 5 --numerics all
        graphc verify digits.graphc --artifact build/digits""",
    )
    _dims(parser)
    parser.add_argument("--seed", type=int, default=0, help="of the inputs (default: 0)")
    parser.add_argument("--threads", type=positive, help="threads (default: all processors)")
    parser.add_argument(
        "--samples", type=positive, default=3, help="of random inputs (default: %(default)s)"
    )
    parser.add_argument(
        "--numerics",
        type=one_or_more(NUMERICS),
        default=("standard",),
        metavar="MODE,…",
        help="exact, standard, fast, or all (default: standard)",
    )
    parser.add_argument(
        "--artifact", metavar="DIR", help="check what `graphc compile` wrote there instead"
    )
    _json(parser)


def _export(commands: Any) -> None:
    parser = _command(
        commands,
        "export",
        "write a graph as an ONNX model",
        """graphc export digits.graphc -o digits.onnx
        graphc export step.graphc -o step.onnx --without-updates""",
    )
    parser.add_argument("-o", "--out", required=True, metavar="FILE", help="the ONNX file")
    parser.add_argument("--opset", type=positive, help="ONNX's version (default: 21)")
    parser.add_argument(
        "--without-updates",
        action="store_true",
        help="leave out the updates of variables, which ONNX cannot say",
    )
    _json(parser)


def _view(commands: Any) -> None:
    parser = _command(
        commands,
        "view",
        "write a viewer of the graph: one HTML file that needs nothing else",
        """graphc view digits.graphc -o digits.html
        graphc view model.g --format dot -o - | dot -Tsvg""",
    )
    parser.add_argument(
        "-o", "--out", metavar="FILE", help="(default: the model's name; - is stdout)"
    )
    parser.add_argument("--format", choices=VIEWS, default="html", help="(default: %(default)s)")
    _numerics(parser)


def _completion(commands: Any) -> None:
    parser = _command(
        commands,
        "completion",
        "print the completion script of a shell",
        """graphc completion bash > ~/.local/share/bash-completion/completions/graphc""",
        model=False,
    )
    parser.add_argument("shell", choices=SHELLS)
