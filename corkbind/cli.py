"""Serve an app from the command line: `corkbind module:app --port 8000`; or look at its source: `corkbind lint path/`."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import importlib
import os
import signal
import sys
import threading
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from corkbind import embedding, lint, tls
from corkbind.app import App
from corkbind.errors import TlsError
from corkbind.options import EXCLUSIVE, AppListenOptions, AppOptions

MOST_DIGITS: Final = 10


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
        where = address if options.uds is None else AppListenOptions(domain=options.uds)
        if secured := _tls_options(options, app._options):
            tls.secure(app, secured)
            _check_certified(app)
        if app._options is not None:
            app.on_start(lambda: _obey_hangup(app))
        app.listen(where, lambda real: _announce(real, "http" if app._options is None else "https"))
        app.run(loop=options.loop)
    except (CommandError, OSError, ImportError, TlsError, UnicodeEncodeError) as error:
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
    parser.add_argument("--ssl-verify", choices=("required", "optional"), help="with --ssl-ca-certs: must clients show one?")
    parser.add_argument("--ssl-min-version", choices=("1.2", "1.3"), help="the least version of TLS (default: 1.2)")
    parser.add_argument(
        "--ssl-record-size", metavar="SIZE", help="most bytes of data in a TLS record, or dynamic (default: 16384)"
    )
    parser.add_argument("--version", action="version", version=f"corkbind {package_version()}")
    return parser


def package_version() -> str:
    """Return the installed version, or "unknown" in a bare source tree."""
    try:
        return version("corkbind")
    except PackageNotFoundError:
        return "unknown"


def _tls_options(options: argparse.Namespace, own: AppOptions | None) -> AppOptions | None:
    """Return what the command says of TLS, on top of what the app itself says; None: it says nothing."""
    size = options.ssl_record_size
    given: dict[str, Any] = {
        "key_file_name": options.ssl_keyfile,
        "cert_file_name": options.ssl_certfile,
        "passphrase": options.ssl_keyfile_password,
        "ca_file_name": options.ssl_ca_certs,
        "ssl_ciphers": options.ssl_ciphers,
        "verify": options.ssl_verify,
        "min_version": options.ssl_min_version,
        "record_size": int(size) if size and size.isdecimal() and len(size) < MOST_DIGITS else size,
    }
    given = {name: value for name, value in given.items() if value is not None}
    try:
        return dataclasses.replace(own or AppOptions(), **given) if given else None
    except (RuntimeError, ValueError) as error:
        raise CommandError(str(error)) from None


def _check_certified(app: App) -> None:
    """Turn away options of TLS where no handshake could ever succeed."""
    options = app._options
    named = app._server_names or app._missing_name
    if not named and options and options.cert_file_name is None and options.key_file_name is None:
        raise CommandError("HTTPS needs a certificate: --ssl-certfile and --ssl-keyfile are not given")


def _obey_hangup(app: App) -> None:
    """Read the certificates again at SIGHUP, where this thread can."""
    if threading.current_thread() is threading.main_thread():
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, _reload, app)


def _reload(app: App) -> None:
    try:
        app.reload_certificates()
    except TlsError as error:
        print(f"corkbind: the certificates stay as they are: {error}", file=sys.stderr, flush=True)
    else:
        print("corkbind: the certificates have been read again", flush=True)


def _announce(where: AppListenOptions, scheme: str) -> None:
    place = where.domain or f"{scheme}://{where.host or '*'}:{where.port}"
    print(f"corkbind: listening on {place}", flush=True)
