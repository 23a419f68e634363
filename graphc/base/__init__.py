"""Floor 0: errors, dtypes, dims, interning, traversal, targets.

Imports nothing of graphc above it.
"""
