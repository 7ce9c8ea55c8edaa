"""Serve an app from the command line: `corkbind module:app --port 8000`; or look at its source: `corkbind lint path/`."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from corkbind import embedding, lint, tls
from corkbind.app import App
from corkbind.errors import TlsError
from corkbind.options import EXCLUSIVE, AppListenOptions, AppOptions


class CommandError(Exception):
    """Be one clear line for the user."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if arguments[:1] == ["lint"]:
        return lint.main(arguments[1:])
    if arguments[:1] == ["config"]:
        return embedding.main(arguments[1:])
    options = _parser().parse_args(arguments)
    try:
        app = find_app(options.app)
        address = AppListenOptions(options.port, options.host, EXCLUSIVE)
        where = AppListenOptions(domain=options.uds) if options.uds else address
        if secured := _tls_options(options):
            tls.secure(app, secured)
        app.listen(where, lambda real: _announce(real, "http" if app._options is None else "https"))
        app.run(loop=options.loop)
    except (CommandError, OSError, ImportError, TlsError) as error:
        text = error.strerror if isinstance(error, OSError) and error.strerror else error
        print(f"corkbind: {text}", file=sys.stderr)
        return 1
    return 0


def find_app(name: str) -> App:
    """Import "module:attribute"; the attribute is "app" when not said.

    Raises:
        CommandError: there is no such module or attribute, or it is no App.
    """
    module_name, _, attribute = name.partition(":")
    sys.path.insert(0, os.getcwd())
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and not (module_name + ".").startswith(error.name + "."):
            raise  # a module that the application imports
        raise CommandError(f"there is no module {module_name!r} in {os.getcwd()} or on the Python path") from None
    except ValueError:
        raise CommandError(f"{name!r} is not module:attribute") from None
    for part in (attribute or "app").split("."):
        if not hasattr(found, part):
            raise CommandError(f"module {module_name!r} has no {attribute or 'app'!r}")
        found = getattr(found, part)
    if not isinstance(found, App):
        raise CommandError(f"{module_name}:{attribute or 'app'} is a {type(found).__name__}, not a corkbind.App")
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="corkbind",
        description="Serve a corkbind app.",
        epilog="corkbind lint path/ finds code that writes outside a cork; see corkbind lint --help. "
        "corkbind config prints what a C compiler needs; see corkbind config --help.",
    )
    parser.add_argument("app", help="module:attribute of the App, as in hello:app")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="port, 0 for a free one (default: %(default)s)")
    parser.add_argument("--uds", metavar="PATH", help="listen on a Unix socket in place of host and port")
    parser.add_argument("--loop", choices=("auto", "asyncio", "uvloop"), default="auto", help="event loop (default: %(default)s)")
    parser.add_argument("--ssl-keyfile", metavar="FILE", help="private key: serve HTTPS")
    parser.add_argument("--ssl-certfile", metavar="FILE", help="certificate, and those of the authorities between")
    parser.add_argument("--ssl-keyfile-password", metavar="TEXT", help="what opens the private key")
    parser.add_argument("--ssl-ca-certs", metavar="FILE", help="let in only clients with a certificate of these authorities")
    parser.add_argument("--ssl-ciphers", metavar="LIST", help="OpenSSL's list of ciphers")
    parser.add_argument("--version", action="version", version=f"corkbind {package_version()}")
    return parser


def package_version() -> str:
    """Return the installed version, or "unknown" in a bare source tree."""
    try:
        return version("corkbind")
    except PackageNotFoundError:
        return "unknown"


def _tls_options(options: argparse.Namespace) -> AppOptions | None:
    given = {
        "key_file_name": options.ssl_keyfile,
        "cert_file_name": options.ssl_certfile,
        "passphrase": options.ssl_keyfile_password,
        "ca_file_name": options.ssl_ca_certs,
        "ssl_ciphers": options.ssl_ciphers,
    }
    return AppOptions(**given) if any(given.values()) else None


def _announce(where: AppListenOptions, scheme: str) -> None:
    place = where.domain or f"{scheme}://{where.host or '*'}:{where.port}"
    print(f"corkbind: listening on {place}", flush=True)
