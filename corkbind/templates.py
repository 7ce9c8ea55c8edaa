"""Adapt template engines to `app.template(engine)`.

An engine is any object with `render(*args, **kw)` that returns str or bytes.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from typing import Any

SearchPath = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


class Jinja2:
    """Render Jinja2 templates, with autoescape on for every file name.

    Args:
        searchpath: a folder of templates, or several.
        encoding: of the files.
        followlinks: follow symbolic links in the folders.
        options: for `jinja2.Environment`; "loader" takes the place of the folders.

    Attributes:
        environment: the `jinja2.Environment`, for filters and globals.

    Raises:
        ImportError: jinja2 is not installed: `pip install corkbind[templates]`.
    """

    def __init__(
        self, searchpath: SearchPath = "templates", encoding: str = "utf-8", followlinks: bool = False, **options: Any
    ) -> None:
        try:
            import jinja2
        except ImportError as error:
            raise ImportError("corkbind.templates.Jinja2 needs jinja2: pip install corkbind[templates]") from error
        options.setdefault("autoescape", True)
        if "loader" not in options:
            options["loader"] = jinja2.FileSystemLoader(searchpath, encoding=encoding, followlinks=followlinks)
        self.environment = jinja2.Environment(**options)

    def render(self, name: str, /, *arguments: Any, **values: Any) -> str:
        """Return a template of this name, filled in.

        Raises:
            jinja2.TemplateNotFound: there is none.
            jinja2.TemplateError: it cannot be read or filled in.
        """
        return self.environment.get_template(name).render(*arguments, **values)


class Mako:
    """Render Mako templates, with HTML escaping on.

    Args:
        directories: a folder of templates, or several.
        options: for `mako.lookup.TemplateLookup`.

    Attributes:
        lookup: the `mako.lookup.TemplateLookup`.

    Raises:
        ImportError: mako is not installed.
    """

    def __init__(self, directories: SearchPath = "templates", **options: Any) -> None:
        try:
            lookup: Any = importlib.import_module("mako.lookup")
        except ImportError as error:
            raise ImportError("corkbind.templates.Mako needs mako: pip install mako") from error
        options.setdefault("default_filters", ["h"])
        folders = [directories] if isinstance(directories, (str, os.PathLike)) else list(directories)
        self.lookup = lookup.TemplateLookup(folders, **options)

    def render(self, name: str, /, *arguments: Any, **values: Any) -> str:
        """Return a template of this name, filled in.

        Raises:
            mako.exceptions.MakoException: there is none, or it cannot be filled in.
        """
        return str(self.lookup.get_template(name).render(*arguments, **values))
