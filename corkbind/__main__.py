"""Run the command line: `python -m corkbind`."""

from __future__ import annotations

import sys

from corkbind.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
