"""Run an example on a free port: its source with port 0 in place of 8000, and nothing else changed."""

import sys
from pathlib import Path

path = Path(sys.argv[1])
source = path.read_text(encoding="utf-8")
assert source.count("8000") == 1, f"{path.name} must name its port once"
sys.argv[:] = [str(path)]
exec(compile(source.replace("8000", "0"), path, "exec"), {"__name__": "__main__", "__file__": str(path)})
