"""Ahead of time (floor 8): a graph as a C library, object, program or text that needs no Python."""
