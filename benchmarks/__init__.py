"""Benchmarks: one module per question, run as `python -m benchmarks NAME`.

A module has `run() -> Iterator[Row]` and a docstring whose first line is its question. Tables
carry the machine and the load that other processes put on it, because a figure without them says
nothing.
"""
