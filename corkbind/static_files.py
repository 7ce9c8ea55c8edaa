"""Serve a directory: from a request's path to a file, and never to one outside.

Each segment of the path is decoded by itself and must be a plain name: none that
climbs, none that hides another separator, none with NUL. What is opened has to lie
inside the directory by its real path, so that links out of it are refused.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_to_bytes

from corkbind import files

if TYPE_CHECKING:
    from corkbind.request import HttpRequest
    from corkbind.response import HttpResponse

_FORBIDDEN: Final = (b"/", b"\\", b"\0")
_UP_OR_HERE: Final = (b"", b".", b"..")


class StaticFiles:
    """Answer requests below a route with the files of a directory.

    Args:
        directory: what is served.
        index: the file that stands for a directory, or None.
        cache_control: the value of Cache-Control; None sends none.
        precompressed: send neighbours (name.br, .zst, .gz) to clients that take them.
        dotfiles: serve names that begin with "." as well.

    Raises:
        NotADirectoryError: `directory` is none.
        ValueError: `index` is no plain name.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        index: str | None = "index.html",
        cache_control: str | None = None,
        precompressed: bool = True,
        dotfiles: bool = False,
    ) -> None:
        root = os.path.realpath(directory)
        if not os.path.isdir(root):
            raise NotADirectoryError(f"cannot serve {os.fspath(directory)!r}: it is no directory")
        if index is not None and (not index or "/" in index or index in (".", "..")):
            raise ValueError(f"an index must be a plain file name, not {index!r}")
        self._root = root
        self._index = index
        self._dotfiles = dotfiles
        self._options = files.Options(None, cache_control, precompressed, root)

    async def __call__(self, res: HttpResponse, req: HttpRequest) -> None:
        """Answer one request."""
        segments = req._raw_parameters()[-1].split("/")
        names = [unquote_to_bytes(segment) for segment in segments]
        wants_directory = names[-1] == b""
        if wants_directory:
            names.pop()
        if not all(self._is_name(name) for name in names) or (wants_directory and self._index is None):
            files.not_found(res)
            return
        path = os.path.join(self._root, *map(os.fsdecode, names))
        if wants_directory and self._index is not None:
            path = os.path.join(path, self._index)
        try:
            await files.send(res, req, path, self._options)
        except IsADirectoryError:
            if wants_directory or self._index is None:
                files.not_found(res)
            else:
                redirect_to_directory(res, req)

    def _is_name(self, name: bytes) -> bool:
        hidden = name.startswith(b".") and not self._dotfiles
        return not hidden and name not in _UP_OR_HERE and not any(byte in name for byte in _FORBIDDEN)


def redirect_to_directory(res: HttpResponse, req: HttpRequest) -> None:
    """Send the client to the same path with a slash behind it, where relative links work."""
    # A path of two slashes would name another host.
    path = "/" + req.get_url().lstrip("/") + "/"
    query = req.get_full_url().partition("?")[2]
    res.redirect(f"{path}?{query}" if query else path, 308)
