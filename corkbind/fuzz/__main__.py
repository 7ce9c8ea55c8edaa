"""Run the command: `python -m corkbind.fuzz`."""

from __future__ import annotations

import sys

from corkbind.fuzz.command import main

if __name__ == "__main__":
    sys.exit(main())
