"""Mirror the public structures of corkbind.h, field for field."""

from __future__ import annotations

from ctypes import (
    PYFUNCTYPE,
    Structure,
    byref,
    c_char_p,
    c_int,
    c_int64,
    c_ssize_t,
    c_uint,
    c_uint8,
    c_uint32,
    c_uint64,
    c_void_p,
    py_object,
)
from typing import Any

from corkbind._ffi.constants import CK_FLUSH_REASONS

# Callback types. All give back nothing: when Python raises inside a callback
# with a result, C receives garbage.
RequestCallback = PYFUNCTYPE(None, c_int, c_uint)
AbortedCallback = PYFUNCTYPE(None, c_uint, c_int)
BodyCallback = PYFUNCTYPE(None, c_uint, c_int)
DataCallback = PYFUNCTYPE(None, c_uint, py_object, c_int)
WritableCallback = PYFUNCTYPE(None, c_uint)
DeferredCallback = PYFUNCTYPE(None)
UncorkedCallback = PYFUNCTYPE(None, c_uint)
WebSocketCallback = PYFUNCTYPE(None, c_uint, c_int, py_object, c_int)
TlsFailedCallback = PYFUNCTYPE(None, c_uint, c_char_p, c_int)
UdpCallback = PYFUNCTYPE(None, c_uint, c_int, py_object, c_int)
SocketCallback = PYFUNCTYPE(None, c_uint, c_int, py_object, c_int)
ServerNameCallback = PYFUNCTYPE(None, c_uint, c_char_p)


class ck_stats(Structure):
    """Hold the counters of an app."""

    _fields_ = [
        ("requests", c_uint64),
        ("responses", c_uint64),
        ("sends", c_uint64),
        ("bytes", c_uint64),
        ("overflows", c_uint64),
        ("nested_corks", c_uint64),
        ("rollbacks", c_uint64),
        ("uncorked_writes", c_uint64),
        ("tls_records", c_uint64),
        ("tls_failures", c_uint64),
        ("refused", c_uint64),
        ("aborted", c_uint64),
        ("timeouts", c_uint64),
        ("connections", c_uint64),
        ("open", c_uint64),
        ("flushes", c_uint64 * CK_FLUSH_REASONS),
    ]


class ck_datagram_stats(Structure):
    """Hold the counters of a datagram socket."""

    _fields_ = [
        ("datagrams", c_uint64),
        ("sends", c_uint64),
        ("bytes", c_uint64),
        ("received", c_uint64),
        ("receives", c_uint64),
        ("received_bytes", c_uint64),
        ("dropped", c_uint64),
        ("failed", c_uint64),
        ("lost", c_uint64),
    ]


class ck_counters(Structure):
    """Hold the counters of a route or a connection."""

    _fields_ = [
        ("requests", c_uint64),
        ("responses", c_uint64),
        ("sends", c_uint64),
        ("bytes", c_uint64),
        ("overflows", c_uint64),
        ("nested_corks", c_uint64),
        ("rollbacks", c_uint64),
        ("uncorked_writes", c_uint64),
        ("tls_records", c_uint64),
        ("flushes", c_uint64 * CK_FLUSH_REASONS),
    ]


class ck_connection_info(Structure):
    """Describe an open connection."""

    _fields_ = [
        ("counters", ck_counters),
        ("packed", c_uint64),
        ("backlog", c_uint64),
        ("seconds", c_uint32),
        ("state", c_uint32),
        ("port", c_uint32),
        ("address_length", c_uint32),
        ("address", c_uint8 * 16),
    ]


class ck_limits(Structure):
    """Hold the limits of an app, in seconds and bytes."""

    _fields_ = [
        ("body", c_uint64),
        ("backlog", c_uint64),
        ("line", c_uint32),
        ("head", c_uint32),
        ("field", c_uint32),
        ("fields", c_uint32),
        ("pipeline", c_uint32),
        ("window", c_uint32),
        ("head_seconds", c_uint32),
        ("idle_seconds", c_uint32),
        ("body_seconds", c_uint32),
        ("handler_seconds", c_uint32),
        ("rate", c_uint32),
        ("connections", c_uint32),
    ]


class ck_tls_options(Structure):
    """Hold the files and settings of TLS."""

    _fields_ = [
        ("key_file", c_char_p),
        ("certificate_file", c_char_p),
        ("passphrase", c_char_p),
        ("dh_file", c_char_p),
        ("ca_file", c_char_p),
        ("ciphers", c_char_p),
        ("low_memory", c_uint32),
        ("min_version", c_uint32),
        ("verify_optional", c_uint32),
        ("record_size", c_uint32),
        ("sni_strict", c_uint32),
        ("check_host", c_uint32),
    ]


class ck_ws_limits(Structure):
    """Hold the settings of a WebSocket route, in seconds and bytes."""

    _fields_ = [
        ("message", c_uint64),
        ("backlog", c_uint64),
        ("idle_seconds", c_uint32),
        ("close_seconds", c_uint32),
        ("pings", c_uint32),
        ("close_on_backlog", c_uint32),
        ("idle_on_send", c_uint32),
        ("lifetime_minutes", c_uint32),
        ("compression", c_uint32),
    ]


class ck_callbacks(Structure):
    """Hold what the core calls."""

    _fields_ = [
        ("request", RequestCallback),
        ("aborted", AbortedCallback),
        ("body", BodyCallback),
        ("data", DataCallback),
        ("writable", WritableCallback),
        ("deferred", DeferredCallback),
        ("uncorked", UncorkedCallback),
        ("websocket", WebSocketCallback),
        ("tls_failed", TlsFailedCallback),
        ("udp", UdpCallback),
        ("socket", SocketCallback),
        ("server_name", ServerNameCallback),
    ]


class ck_follower(Structure):
    """Hold what follows an exchange in C."""

    _fields_ = [
        ("aborted", c_void_p),
        ("body", c_void_p),
        ("data", c_void_p),
        ("writable", c_void_p),
    ]


class ck_python(Structure):
    """Hold the addresses of the interpreter's own constructors."""

    _fields_ = [
        ("bytes_new", c_void_p),
        ("latin1", c_void_p),
        ("utf8", c_void_p),
        ("list_new", c_void_p),
        ("list_append", c_void_p),
        ("tuple_pack", c_void_p),
        ("incref", c_void_p),
        ("decref", c_void_p),
        ("error_set", c_void_p),
        ("error_no_memory", c_void_p),
        ("none", c_void_p),
        ("value_error", c_void_p),
        ("integer", c_void_p),
        ("call", c_void_p),
        ("list_item", c_void_p),
        ("error_fetch", c_void_p),
        ("error_normalize", c_void_p),
        ("integer_value", c_void_p),
        ("bytes_view", c_void_p),
        ("text_view", c_void_p),
        ("error_occurred", c_void_p),
        ("function_new", c_void_p),
        ("bytes_length", c_ssize_t),
    ]


class ck_abi_entry(Structure):
    """Hold one name and value that the library says about itself."""

    _fields_ = [("name", c_char_p), ("value", c_int64)]


def reference(structure: Structure) -> Any:
    """Return what a row that takes a pointer to the structure is given."""
    return byref(structure)
