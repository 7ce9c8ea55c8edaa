"""Name the content type of a file by its extension.

The table is Python's own and the same on every machine: what mimetypes would
read from the system is left out.
"""

from __future__ import annotations

import os.path
from mimetypes import MimeTypes
from typing import Final

_TABLE: Final = MimeTypes()
#: What the oldest supported Python does not know yet, or knows by an older name.
_MORE: Final = {
    ".avif": "image/avif",
    ".gz": "application/gzip",
    ".br": "application/octet-stream",
    ".bz2": "application/x-bzip2",
    ".xz": "application/x-xz",
    ".zst": "application/zstd",
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".json": "application/json",
    ".map": "application/json",
    ".md": "text/markdown",
    ".otf": "font/otf",
    ".ttf": "font/ttf",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
    ".webp": "image/webp",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
}


def content_type(path: str) -> str:
    """Return the type for a Content-Type field; text is said to be UTF-8."""
    extension = os.path.splitext(path)[1].lower()
    kind = _MORE.get(extension) or _TABLE.types_map[True].get(extension) or "application/octet-stream"
    return f"{kind}; charset=utf-8" if kind.startswith("text/") else kind
