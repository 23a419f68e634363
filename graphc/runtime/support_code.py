"""The runtime's own native code (runtime, floor 7): LLVM text, compiled once, then cached.

The thread pool and the entry from Python are such code.  It is plain scalar code for the baseline
of the machine, so that its object depends on nothing but its text, and LLVM is not imported where
it is cached.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Mapping

from graphc.base.errors import CompileError
from graphc.base.target import AARCH64, X86_BASELINE, Target
from graphc.runtime.cache import ObjectCache, cache_key
from graphc.runtime.object_loader import LoadedObject, load

_TARGETS = {"x86_64": X86_BASELINE, "aarch64": AARCH64}


def support_target() -> Target | None:
    """The target of support code here; None where there is none (not Linux, another machine)."""
    if sys.platform != "linux" or sys.byteorder != "little" or sys.maxsize < 1 << 32:
        return None
    return _TARGETS.get(os.uname().machine)


def load_support_code(
    source: str,
    externals: Mapping[str, int],
    cache: ObjectCache,
    write: Callable[[], str] | None = None,
) -> LoadedObject:
    """Compile LLVM text, or find it in the cache, and map it for the rest of the process.

    source: the text, or, with `write`, which makes the text, all that it is made of.
    """
    target = support_target()
    if target is None:
        raise CompileError(f"no native support code for {sys.platform} on this machine")
    key = cache_key("support code 2", target.name, source)
    data = cache.get(key)
    if data is None:
        data = compile_support_code(write() if write else source, target)
        cache.put(key, data)
    return load(data, externals, permanent=True)


def compile_support_code(text: str, target: Target) -> bytes:
    """Object bytes of support code."""
    data: bytes = importlib.import_module("graphc.backend.llvm_driver").compile_object(text, target)
    return data
