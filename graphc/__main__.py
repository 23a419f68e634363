"""`python -m graphc`: the command line (floor 8), as the installed command `graphc`."""

from __future__ import annotations

import sys

from graphc_cli import main

if __name__ == "__main__":
    sys.exit(main())
