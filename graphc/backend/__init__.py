"""Floor 6: loop IR to machine code. LLVM IR is text; only `llvm_driver` imports llvmlite."""
