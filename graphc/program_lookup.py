"""What a session asks for an executable (floor 8): a cached program where there is one, else the
compiler.

Object bytes are cached by the digest of everything that they depend on (`program_cache`). A cached
program is loaded without LLVM and without the compiler, whose modules are loaded when something is
compiled, or when somebody asks to see the stages of a cached program, which are then recomputed.
"""

from __future__ import annotations

import functools
import importlib
import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from graphc.base.collector import collector_paused
from graphc.ir.graph import Graph
from graphc.program_cache import Contents, machine, pack, program_key, toolchain, unpack
from graphc.runtime.cache import ObjectCache, cache_key, default_directory
from graphc.runtime.executable import COMPILER, CompileOptions, Executable

if TYPE_CHECKING:
    from graphc.compiler import Compilation
    from graphc.tuned_schedules import Tuned

_log = logging.getLogger("graphc.compiler")


def compile_for_session(graph: Graph, options: CompileOptions) -> Executable:
    """Compile a graph for this machine, or take it from the cache."""
    with collector_paused():
        return _compiled(graph, options)


@functools.lru_cache(maxsize=16)
def cache_of(directory: str | None) -> ObjectCache:
    """The cache of a folder: it knows how much was put into it since the folder was measured."""
    return ObjectCache(directory)


@functools.lru_cache(maxsize=1)
def schedules_key() -> str:
    """The key of the schedules that were found on this machine with this compiler."""
    return cache_key("tuned schedules 1", toolchain(), machine())


def schedules_of(folder: str | None) -> Tuned | None:
    """The schedules that were found on this machine, in a cache folder (None or "": no folder)."""
    data = cache_of(folder).get(schedules_key()) if folder else None
    if data is None:
        return None
    found: Tuned | None = importlib.import_module("graphc.tuned_schedules").read(data)
    return found


def schedules_of_user() -> Tuned | None:
    """Those in the user's cache folder."""
    folder = default_directory()
    return None if folder is None else schedules_of(os.fspath(folder))


def executable(
    graph: Graph, contents: Contents, compilation: Callable[[], Compilation], cached: bool
) -> Executable:
    """What a session calls, of a graph and what compiling found about it.

    compilation: asked when somebody wants to see the stages.
    """
    stages = functools.lru_cache(maxsize=1)(compilation)

    return Executable(
        graph,
        contents.object,
        graph.symbols,
        tuple((name, t.type) for name, t in graph.inputs),
        tuple(graph.variables),
        tuple((name, t.type) for name, t in graph.outputs),
        tuple(v for v, _ in graph.updates),
        contents.constants,
        contents.sites,
        contents.flops,
        contents.parallel,
        lambda name: stages().stage(name),
        cached,
        optimized=lambda: stages().optimized,
        describe_kernels=lambda: stages().kernel_infos,
        computed=graph.computed,
        blocks=contents.blocks,
    )


def _compiler() -> Any:
    return importlib.import_module("graphc.compiler")


def _compiled(graph: Graph, options: CompileOptions) -> Executable:
    cache = None if options.profile or options.cache_dir == "" else cache_of(options.cache_dir)
    tuned = schedules_of(options.cache_dir)

    def compilation_of() -> Compilation:
        found: Compilation = _compiler().compilation_here(graph, options, tuned)
        return found

    key = ""
    if cache is not None:
        key = program_key(graph, options, tuned.digest if tuned else "")
        packed = cache.get(key)
        if packed is not None:
            return executable(graph, unpack(graph, packed), compilation_of, True)
    compilation = compilation_of()
    contents: Contents = _compiler().contents_of(compilation, compilation.object())
    if cache is not None:
        checked = [node for node, _ in compilation.lowered.sites.entries]
        cache.put(key, pack(graph, contents, checked))
    _log.info(
        "compiled %s: %s",
        graph.name,
        {k: round(v * 1e3, 2) for k, v in compilation.seconds.items()},
    )
    return executable(graph, contents, lambda: compilation, False)


COMPILER["compile"] = compile_for_session
