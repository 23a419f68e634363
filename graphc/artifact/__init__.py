"""Files of graphs (floor 8): `.graphc` files, written whole and read without trust.

`save` writes a graph with its variables' values, `load` reads it back.  docs/format.md describes
the file so that other languages can read it.
"""

from graphc.artifact.load import load
from graphc.artifact.save import save

__all__ = ["load", "save"]
