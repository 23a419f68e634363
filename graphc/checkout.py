"""Checkouts on systems without symbolic links (floor 8): `graphc.kernels` is found there as well.

`graphc/kernels` is a link to `../kernels`; where git wrote a text file in its place, the folder
above becomes a second place for the package's modules. Imported before anything that needs a
template.
"""

from __future__ import annotations

import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent

if not (FOLDER / "kernels").is_dir():
    sys.modules["graphc"].__path__.append(str(FOLDER.parent))
