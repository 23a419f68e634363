"""What the LLVM driver refuses."""

from __future__ import annotations

import pytest

from graphc.backend import llvm_driver
from graphc.base.errors import CompileError


def test_an_old_llvm_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llvm_driver, "_machines", {})
    monkeypatch.setattr(llvm_driver.llvm, "llvm_version_info", (20, 1, 8))
    with pytest.raises(CompileError, match=r"(?s)needs LLVM 22 .* has 20\.1\.8.*llvmlite>=0\.50"):
        llvm_driver._machine(llvm_driver.host_target(), 2)
