"""The version of graphc (floor 0): read by the build, the cache key and `graphc.__version__`."""

__version__ = "0.1.0"
