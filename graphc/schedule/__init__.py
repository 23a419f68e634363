"""Scheduling (floor 5): how a kernel's loops run."""
