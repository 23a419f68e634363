"""Pictures of a graph (floor 8): a self-contained HTML viewer, DOT, and JSON for Model Explorer.

`scenes` says what is shown (nodes, scopes, kernels), the other modules how.
"""
