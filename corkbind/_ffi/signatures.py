"""Describe every function of corkbind.h in one table, in header order.

Two kinds of row. A *cold* row has a result type and argument types, and ctypes
converts. A *hot* row has HOT for its arguments: ctypes takes what it is given,
which costs 174 ns where three described arguments cost 425. Only `int` that
fits 32 bits and exact `bytes` may be given to a hot row; the one module that
calls it has checked that. All go through PyDLL: no entry blocks, and the lock
must not be dropped around callbacks. For the hottest rows the loader then takes
functions that the core makes itself, which cost a third and check what they are given.
"""

from __future__ import annotations

from ctypes import (
    POINTER,
    c_char_p,
    c_int,
    c_int64,
    c_size_t,
    c_uint,
    c_uint64,
    c_void_p,
    py_object,
)
from typing import Any, Final, NamedTuple

from corkbind._ffi.layouts import (
    ck_abi_entry,
    ck_callbacks,
    ck_connection_info,
    ck_counters,
    ck_datagram_stats,
    ck_follower,
    ck_limits,
    ck_python,
    ck_stats,
    ck_tls_options,
    ck_ws_limits,
)

HOT: Final = None


class Row(NamedTuple):
    """Describe one C function; `arguments` is HOT for a hot row."""

    name: str
    result: Any
    arguments: tuple[Any, ...] | None

    @property
    def hot(self) -> bool:
        """Tell whether the row is called without conversion."""
        return self.arguments is HOT


TABLE: Final[tuple[Row, ...]] = (
    # The library
    Row("ck_abi_version", c_int, ()),
    Row("ck_abi_table", POINTER(ck_abi_entry), ()),
    Row("ck_python_bind", None, (POINTER(ck_python),)),
    Row("ck_python_entries", None, (c_void_p, c_void_p, c_void_p, c_void_p)),
    Row("ck_python_functions", c_int, (c_void_p,)),
    # The loop of the calling thread
    Row("ck_loop_open", c_int, (POINTER(ck_callbacks),)),
    Row("ck_loop_open_on", c_int, (c_void_p, POINTER(ck_callbacks))),
    Row("ck_loop_close", c_int, ()),
    Row("ck_loop_fd", c_int, ()),
    Row("ck_loop_step", c_int, HOT),
    Row("ck_loop_sweep", c_int, ()),
    Row("ck_loop_wake", c_int, (c_uint,)),
    Row("ck_loop_token", c_uint, HOT),
    Row("ck_loop_forked", None, ()),
    Row("ck_loop_handles", c_int, ()),
    Row("ck_loop_alive", c_int, ()),
    Row("ck_loop_busy", c_int, ()),
    Row("ck_loop_iteration", c_int64, ()),
    Row("ck_loop_select", c_int, HOT),
    # The loopback
    Row("ck_loopback_open", c_uint, (POINTER(ck_callbacks), POINTER(c_int))),
    Row("ck_loopback_close", c_int, (c_uint,)),
    Row("ck_loopback_work", c_int, HOT),
    Row("ck_loopback_connect", c_int, HOT),
    Row("ck_loopback_send", c_int, HOT),
    Row("ck_loopback_fin", c_int, HOT),
    Row("ck_loopback_reset", c_int, HOT),
    Row("ck_loopback_window", c_int, HOT),
    Row("ck_loopback_most", c_int, HOT),
    Row("ck_loopback_state", c_int, HOT),
    Row("ck_loopback_unread", c_int, HOT),
    Row("ck_loopback_heard", c_int, HOT),
    Row("ck_py_loopback_take", py_object, HOT),
    Row("ck_loopback_forget", c_int, HOT),
    Row("ck_loopback_now", c_int64, ()),
    Row("ck_loopback_due", c_int64, ()),
    Row("ck_loopback_pass", c_int, (c_int64,)),
    Row("ck_loopback_rewind", c_int, ()),
    Row("ck_loopback_fault", c_int, (c_int, c_int)),
    Row("ck_loopback_fail_allocation", c_int, (c_int64, c_int)),
    Row("ck_loopback_clear_faults", c_int, ()),
    Row("ck_loopback_count", c_int64, (c_int,)),
    # Certificates
    Row("ck_certificate_text", c_int, (c_char_p, c_size_t, c_int, c_char_p, c_size_t)),
    # Apps
    Row("ck_app_create", c_uint, (POINTER(ck_limits),)),
    Row("ck_app_create_tls", c_uint, (POINTER(ck_limits), POINTER(ck_tls_options))),
    Row("ck_tls_error", c_char_p, ()),
    Row("ck_app_destroy", c_int, (c_uint,)),
    Row("ck_app_add_server_name", c_int, (c_uint, c_char_p, POINTER(ck_tls_options))),
    Row("ck_app_remove_server_name", c_int, (c_uint, c_char_p)),
    Row("ck_app_missing_server_name", c_int, (c_uint, c_int)),
    Row("ck_app_refuse_server_name", c_int, (c_uint,)),
    Row("ck_app_prepare", c_int, (c_uint, c_char_p, POINTER(ck_tls_options))),
    Row("ck_app_renew", c_int, (c_uint, c_int)),
    Row("ck_app_domain", c_uint, (c_uint, c_char_p, c_size_t, POINTER(c_int))),
    Row("ck_app_route", c_int, (c_uint, c_int, c_char_p, c_size_t, c_int, c_int64)),
    Row(
        "ck_app_fixed",
        c_int,
        (c_uint, c_int, c_char_p, c_size_t, c_int, c_char_p, c_size_t, c_char_p, c_size_t),
    ),
    Row("ck_app_websocket", c_int, (c_uint, c_char_p, c_size_t, c_int, POINTER(ck_ws_limits))),
    Row("ck_method_id", c_int, (c_char_p, c_size_t)),
    Row("ck_app_listen", c_uint, (c_uint, c_char_p, c_int, c_int, POINTER(c_int))),
    Row("ck_app_listen_unix", c_uint, (c_uint, c_char_p, c_int, POINTER(c_int))),
    Row("ck_listener_port", c_int, (c_uint,)),
    Row("ck_listener_close", c_int, (c_uint,)),
    Row("ck_app_drain", c_int, (c_uint,)),
    Row("ck_app_abort", c_int, (c_uint,)),
    Row("ck_app_stats", c_int, (c_uint, POINTER(ck_stats))),
    Row("ck_app_route_stats", c_int, (c_uint, c_int, c_int, POINTER(ck_counters))),
    Row("ck_app_unrouted_stats", c_int, (c_uint, POINTER(ck_counters))),
    Row("ck_app_connections", c_int, (c_uint, c_int, POINTER(ck_connection_info), c_int)),
    Row("ck_app_backlog", c_int64, (c_uint,)),
    Row("ck_app_proxy_protocol", c_int, (c_uint, c_char_p, c_int, c_int)),
    Row("ck_app_watch", c_int, (c_uint, c_int)),
    Row("ck_app_server_timing", c_int, (c_uint, c_int)),
    # An exchange: one request and its response
    Row("ck_keep", c_int, HOT),
    Row("ck_release", c_int, HOT),
    Row("ck_alive", c_int, HOT),
    Row("ck_set_yield", c_int, HOT),
    Row("ck_get_yield", c_int, (c_uint,)),
    # Reading the request
    Row("ck_py_method", py_object, HOT),
    Row("ck_py_target", py_object, HOT),
    Row("ck_py_path", py_object, HOT),
    Row("ck_py_query", py_object, HOT),
    Row("ck_py_host", py_object, HOT),
    Row("ck_py_header", py_object, HOT),
    Row("ck_py_headers", py_object, HOT),
    Row("ck_py_trailers", py_object, HOT),
    Row("ck_py_parameter", py_object, HOT),
    Row("ck_py_remote_address", py_object, HOT),
    Row("ck_py_proxied_address", py_object, HOT),
    Row("ck_proxied_port", c_int, HOT),
    Row("ck_py_tls", py_object, HOT),
    Row("ck_py_client_certificate", py_object, HOT),
    Row("ck_parameter_count", c_int, HOT),
    Row("ck_http_minor", c_int, HOT),
    Row("ck_remote_port", c_int, HOT),
    Row("ck_header_value", c_int, (c_uint, c_char_p, c_int, POINTER(c_void_p))),
    Row("ck_path_value", c_int, (c_uint, POINTER(c_void_p))),
    Row("ck_method_value", c_int, (c_uint, POINTER(c_void_p))),
    Row("ck_target_value", c_int, (c_uint, POINTER(c_void_p))),
    Row("ck_query_value", c_int, (c_uint, POINTER(c_void_p))),
    Row("ck_host_value", c_int, (c_uint, POINTER(c_void_p))),
    Row("ck_parameter_value", c_int, (c_uint, c_int, POINTER(c_void_p))),
    Row("ck_field_value", c_int, (c_uint, c_int, POINTER(c_void_p), POINTER(c_int), POINTER(c_void_p))),
    Row("ck_remote_address_value", c_int, (c_uint, c_char_p)),
    Row("ck_body_ask", c_int, HOT),
    Row("ck_py_body_take", py_object, HOT),
    Row("ck_body_value", c_int64, (c_uint, POINTER(c_void_p))),
    Row("ck_body_limit", c_int, (c_uint, c_uint64)),
    Row("ck_pause", c_int, HOT),
    # Writing the response
    Row("ck_status", c_int, HOT),
    Row("ck_status_line", c_int, HOT),
    Row("ck_header", c_int, HOT),
    Row("ck_header_bytes", c_int, HOT),
    Row("ck_write", c_int, HOT),
    Row("ck_end", c_int, HOT),
    Row("ck_end_bytes", c_int, HOT),
    Row("ck_write_large", c_int, (c_uint, c_char_p, c_size_t)),
    Row("ck_end_large", c_int, (c_uint, c_char_p, c_size_t, c_int)),
    Row("ck_send", c_int, HOT),
    Row("ck_end_without_body", c_int, (c_uint, c_int64, c_int)),
    Row("ck_try_end", c_int, (c_uint, c_char_p, c_size_t, c_uint64, c_int)),
    Row("ck_send_file", c_int, (c_uint, c_int, c_int64, c_uint64)),
    Row("ck_write_offset", c_int64, (c_uint,)),
    Row("ck_set_write_offset", c_int, (c_uint, c_uint64)),
    Row("ck_write_continue", c_int, (c_uint,)),
    Row("ck_want_writable", c_int, HOT),
    Row("ck_has_started", c_int, HOT),
    Row("ck_buffered_amount", c_int, HOT),
    Row("ck_sends", c_int, HOT),
    Row("ck_fail", c_int, HOT),
    Row("ck_close", c_int, HOT),
    # Corking
    Row("ck_cork", c_int, HOT),
    Row("ck_uncork", c_int, HOT),
    Row("ck_flush", c_int, HOT),
    Row("ck_corked", c_uint, HOT),
    # WebSockets
    Row("ck_upgrade", c_int64, (c_uint, c_char_p, c_size_t)),
    Row("ck_ws_send", c_int, HOT),
    Row("ck_ws_close", c_int, HOT),
    Row("ck_ws_terminate", c_int, HOT),
    Row("ck_ws_compressed", c_int, HOT),
    Row("ck_ws_pause", c_int, HOT),
    Row("ck_ws_buffered", c_int, HOT),
    Row("ck_ws_cork", c_int, HOT),
    Row("ck_ws_uncork", c_int, HOT),
    Row("ck_ws_flush", c_int, HOT),
    # Topics
    Row("ck_ws_subscribe", c_int, HOT),
    Row("ck_ws_unsubscribe", c_int, HOT),
    Row("ck_ws_subscribed", c_int, HOT),
    Row("ck_py_ws_topics", py_object, HOT),
    Row("ck_ws_publish", c_int, HOT),
    Row("ck_app_publish", c_int, HOT),
    Row("ck_app_subscribers", c_int, HOT),
    # Embedding
    Row("ck_app_loop", c_void_p, (c_uint, POINTER(c_int))),
    Row("ck_app_on_destroy", c_int, (c_uint, c_void_p, c_void_p)),
    Row("ck_app_route_native", c_int, (c_uint, c_int, c_char_p, c_size_t, c_void_p, c_void_p, c_int64)),
    Row("ck_follow", c_int, (c_uint, POINTER(ck_follower), c_void_p)),
    Row("ck_app_native_route", c_int, (c_uint, c_int, POINTER(c_int), POINTER(c_void_p))),
    Row("ck_api_table", c_void_p, ()),
    # Datagrams
    Row("ck_udp_create", c_uint, (c_char_p, c_int, c_uint64, c_int, POINTER(c_int))),
    Row("ck_udp_close", c_int, (c_uint,)),
    Row("ck_udp_port", c_int, (c_uint,)),
    Row("ck_py_udp_address", py_object, (c_uint,)),
    Row("ck_udp_send", c_int, HOT),
    Row("ck_udp_buffered", c_int, HOT),
    Row("ck_udp_cork", c_int, HOT),
    Row("ck_udp_uncork", c_int, HOT),
    Row("ck_udp_corks", c_int, HOT),
    Row("ck_udp_flush", c_int, HOT),
    Row("ck_udp_stats", c_int, (c_uint, POINTER(ck_datagram_stats))),
    # Sockets without HTTP
    Row("ck_context_create", c_uint, (c_uint64, c_int)),
    Row("ck_context_create_tls", c_uint, (c_uint64, c_int, POINTER(ck_tls_options))),
    Row("ck_context_close", c_int, (c_uint,)),
    Row("ck_context_stats", c_int, (c_uint, POINTER(ck_stats))),
    Row("ck_context_listen", c_uint, (c_uint, c_char_p, c_int, c_int, POINTER(c_int))),
    Row("ck_context_listen_unix", c_uint, (c_uint, c_char_p, c_int, POINTER(c_int))),
    Row("ck_context_connect", c_uint, (c_uint, c_char_p, c_int, c_char_p, POINTER(c_int))),
    Row("ck_context_connect_unix", c_uint, (c_uint, c_char_p, POINTER(c_int))),
    Row("ck_context_adopt", c_uint, (c_uint, c_int, c_int, POINTER(c_int))),
    Row("ck_context_verify", c_int, (c_uint, c_int)),
    Row("ck_context_peer_name", c_int, (c_uint, c_char_p)),
    Row("ck_context_protocols", c_int, (c_uint, c_char_p)),
    Row("ck_context_protocol", c_int, (c_uint, c_char_p)),
    Row("ck_socket_write", c_int, HOT),
    Row("ck_socket_write_large", c_int, (c_uint, c_char_p, c_size_t)),
    Row("ck_socket_send_file", c_int, (c_uint, c_int, c_int64, c_uint64)),
    Row("ck_socket_buffered", c_int, HOT),
    Row("ck_socket_cork", c_int, HOT),
    Row("ck_socket_uncork", c_int, HOT),
    Row("ck_socket_flush", c_int, HOT),
    Row("ck_socket_sends", c_int, HOT),
    Row("ck_socket_shutdown", c_int, HOT),
    Row("ck_socket_end", c_int, HOT),
    Row("ck_socket_close", c_int, HOT),
    Row("ck_socket_pause", c_int, HOT),
    Row("ck_socket_timeout", c_int, HOT),
    Row("ck_socket_long_timeout", c_int, HOT),
    Row("ck_socket_port", c_int, HOT),
    Row("ck_socket_descriptor", c_int, HOT),
    Row("ck_py_socket_address", py_object, HOT),
    Row("ck_py_socket_tls", py_object, HOT),
    Row("ck_py_socket_certificate", py_object, HOT),
    # Timers
    Row("ck_timer_create", c_uint, (c_int,)),
    Row("ck_timer_set", c_int, (c_uint, c_int, c_int)),
    Row("ck_timer_close", c_int, (c_uint,)),
)

#: Functions that the core makes (ck_python_functions) and that are no entries: they take objects.
MADE_ONLY: Final = frozenset({"ck_udp_send_to", "ck_ws_send_bytes", "ck_ws_send_text"})


def declare(library: Any) -> None:
    """Give every function of a loaded library its types.

    Raises:
        AttributeError: the library lacks a function of the table.
    """
    for row in TABLE:
        function = getattr(library, row.name)
        function.restype = row.result
        if row.arguments is not None:
            function.argtypes = row.arguments
