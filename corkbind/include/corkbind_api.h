/* The functions of corkbind as a table of pointers, for code that does not link the library.
 *
 * `ck->ck_end(...)` is ck_end of corkbind.h, `ck->us_create_poll(...)` that of libusockets.h. An
 * extension of Python gets the table by corkbind_import (corkbind_capsule.h), which checks that it
 * fits; who links the library gets it by ck_api_table. The table grows at its end only, as long as
 * CK_ABI_VERSION stays the same. */
#ifndef CORKBIND_API_H
#define CORKBIND_API_H

#include <corkbind.h>
#include <libusockets.h>
#include <libusockets_ext.h>

#ifdef __cplusplus
#define CK_API_POINTER(name) decltype(&::name)
extern "C" {
#else
#define CK_API_POINTER(name) __typeof__(&name)
#endif

/* Every function in the table, in its order. */
#define CK_API(ENTRY) \
    ENTRY(ck_abi_version) ENTRY(ck_loop_open) ENTRY(ck_loop_close) ENTRY(ck_loop_fd) ENTRY(ck_loop_step) \
    ENTRY(ck_loop_sweep) ENTRY(ck_loop_wake) ENTRY(ck_loop_token) ENTRY(ck_loop_handles) ENTRY(ck_app_create) \
    ENTRY(ck_app_create_tls) ENTRY(ck_tls_error) ENTRY(ck_app_destroy) ENTRY(ck_app_route) ENTRY(ck_app_fixed) \
    ENTRY(ck_app_websocket) ENTRY(ck_method_id) ENTRY(ck_app_listen) ENTRY(ck_app_listen_unix) \
    ENTRY(ck_listener_port) ENTRY(ck_listener_close) ENTRY(ck_app_drain) ENTRY(ck_app_abort) ENTRY(ck_app_stats) \
    ENTRY(ck_app_route_stats) ENTRY(ck_app_unrouted_stats) ENTRY(ck_app_connections) ENTRY(ck_app_backlog) \
    ENTRY(ck_app_proxy_protocol) ENTRY(ck_app_watch) ENTRY(ck_app_server_timing) ENTRY(ck_keep) ENTRY(ck_release) \
    ENTRY(ck_alive) ENTRY(ck_set_yield) ENTRY(ck_get_yield) ENTRY(ck_proxied_port) ENTRY(ck_parameter_count) \
    ENTRY(ck_http_minor) ENTRY(ck_remote_port) ENTRY(ck_header_value) ENTRY(ck_path_value) ENTRY(ck_method_value) \
    ENTRY(ck_target_value) ENTRY(ck_query_value) ENTRY(ck_host_value) ENTRY(ck_parameter_value) \
    ENTRY(ck_field_value) ENTRY(ck_remote_address_value) ENTRY(ck_body_ask) ENTRY(ck_body_value) \
    ENTRY(ck_body_limit) ENTRY(ck_pause) ENTRY(ck_status) ENTRY(ck_status_line) ENTRY(ck_header) ENTRY(ck_write) \
    ENTRY(ck_end) ENTRY(ck_write_large) ENTRY(ck_end_large) ENTRY(ck_send) ENTRY(ck_end_without_body) \
    ENTRY(ck_try_end) ENTRY(ck_send_file) ENTRY(ck_write_offset) ENTRY(ck_set_write_offset) ENTRY(ck_write_continue) \
    ENTRY(ck_want_writable) ENTRY(ck_has_started) ENTRY(ck_buffered_amount) ENTRY(ck_sends) ENTRY(ck_fail) \
    ENTRY(ck_close) ENTRY(ck_cork) ENTRY(ck_uncork) ENTRY(ck_flush) ENTRY(ck_corked) ENTRY(ck_upgrade) \
    ENTRY(ck_ws_send) ENTRY(ck_ws_close) ENTRY(ck_ws_terminate) ENTRY(ck_ws_compressed) ENTRY(ck_ws_pause) \
    ENTRY(ck_ws_buffered) ENTRY(ck_ws_cork) ENTRY(ck_ws_uncork) ENTRY(ck_ws_flush) ENTRY(ck_ws_subscribe) \
    ENTRY(ck_ws_unsubscribe) ENTRY(ck_ws_subscribed) ENTRY(ck_ws_publish) ENTRY(ck_app_publish) \
    ENTRY(ck_app_subscribers) ENTRY(ck_app_loop) ENTRY(ck_app_on_destroy) ENTRY(ck_app_route_native) \
    ENTRY(ck_follow) ENTRY(ck_app_native_route) \
    ENTRY(us_create_loop) ENTRY(us_loop_free) ENTRY(us_loop_ext) ENTRY(us_loop_run) ENTRY(us_wakeup_loop) \
    ENTRY(us_loop_integrate) ENTRY(us_loop_iteration_number) ENTRY(us_create_timer) ENTRY(us_timer_ext) \
    ENTRY(us_timer_close) ENTRY(us_timer_set) ENTRY(us_timer_loop) ENTRY(us_create_socket_context) \
    ENTRY(us_create_child_socket_context) ENTRY(us_socket_context_free) ENTRY(us_socket_context_close) \
    ENTRY(us_socket_context_ext) ENTRY(us_socket_context_loop) ENTRY(us_socket_context_timestamp) \
    ENTRY(us_socket_context_on_pre_open) ENTRY(us_socket_context_on_open) ENTRY(us_socket_context_on_connect_error) \
    ENTRY(us_socket_context_on_close) ENTRY(us_socket_context_on_data) ENTRY(us_socket_context_on_writable) \
    ENTRY(us_socket_context_on_timeout) ENTRY(us_socket_context_on_long_timeout) ENTRY(us_socket_context_on_end) \
    ENTRY(us_socket_context_add_server_name) ENTRY(us_socket_context_remove_server_name) \
    ENTRY(us_socket_context_on_server_name) ENTRY(us_socket_server_name_userdata) \
    ENTRY(us_socket_context_find_server_name_userdata) ENTRY(us_socket_context_get_native_handle) \
    ENTRY(us_socket_context_listen) ENTRY(us_socket_context_listen_unix) ENTRY(us_listen_socket_close) \
    ENTRY(us_adopt_accepted_socket) ENTRY(us_socket_context_adopt_socket) ENTRY(us_socket_context_connect) \
    ENTRY(us_socket_context_connect_unix) ENTRY(us_socket_is_established) ENTRY(us_socket_close_connecting) \
    ENTRY(us_socket_write) ENTRY(us_socket_write2) ENTRY(us_socket_flush) ENTRY(us_socket_timeout) \
    ENTRY(us_socket_long_timeout) ENTRY(us_socket_ext) ENTRY(us_socket_context) ENTRY(us_socket_shutdown) \
    ENTRY(us_socket_shutdown_read) ENTRY(us_socket_is_shut_down) ENTRY(us_socket_is_closed) ENTRY(us_socket_close) \
    ENTRY(us_socket_local_port) ENTRY(us_socket_remote_port) ENTRY(us_socket_remote_address) \
    ENTRY(us_socket_get_native_handle) ENTRY(us_socket_send_buffer) ENTRY(us_create_poll) ENTRY(us_poll_free) \
    ENTRY(us_poll_init) ENTRY(us_poll_start) ENTRY(us_poll_change) ENTRY(us_poll_stop) ENTRY(us_poll_events) \
    ENTRY(us_poll_ext) ENTRY(us_poll_fd) ENTRY(us_poll_resize) ENTRY(us_create_udp_packet_buffer) \
    ENTRY(us_udp_packet_buffer_payload) ENTRY(us_udp_packet_buffer_payload_length) \
    ENTRY(us_udp_packet_buffer_local_ip) ENTRY(us_udp_packet_buffer_peer) ENTRY(us_udp_packet_buffer_ecn) \
    ENTRY(us_udp_buffer_set_packet_payload) ENTRY(us_create_udp_socket) ENTRY(us_udp_socket_receive) \
    ENTRY(us_udp_socket_send) ENTRY(us_udp_socket_bind) ENTRY(us_udp_socket_bound_port) ENTRY(us_udp_socket_user) \
    ENTRY(us_sys_default) ENTRY(us_create_loop_on) ENTRY(us_loop_sys) ENTRY(us_loop_abandon) ENTRY(us_loop_fd) \
    ENTRY(us_loop_step) ENTRY(us_loop_sweep) ENTRY(us_poll_on_ready) ENTRY(us_create_udp_packet_buffer_on) \
    ENTRY(us_udp_packet_buffer_free) ENTRY(us_udp_socket_close) ENTRY(us_socket_read_enabled) \
    ENTRY(us_socket_sendfile) ENTRY(us_socket_last_error) ENTRY(us_tls_error) ENTRY(us_socket_context_alpn) \
    ENTRY(us_socket_context_plain_answer) ENTRY(us_socket_context_on_tls_failure) ENTRY(us_socket_unsent) \
    ENTRY(us_socket_was_truncated) ENTRY(us_loop_tls_records) ENTRY(us_loop_sends) \
    ENTRY(ck_loop_alive) ENTRY(ck_loop_busy) ENTRY(ck_loop_iteration) ENTRY(ck_udp_create) ENTRY(ck_udp_close) \
    ENTRY(ck_udp_port) ENTRY(ck_udp_send) ENTRY(ck_udp_buffered) ENTRY(ck_udp_cork) ENTRY(ck_udp_uncork) \
    ENTRY(ck_udp_flush) ENTRY(ck_udp_stats) ENTRY(us_loop_alive) ENTRY(us_udp_socket_local_address) \
    ENTRY(us_socket_context_on_handshake) ENTRY(us_socket_context_verify) ENTRY(us_socket_context_peer_name) \
    ENTRY(us_socket_context_offer_protocols) ENTRY(us_adopt_connected_socket) \
    ENTRY(us_socket_tls_is_established) ENTRY(us_socket_tls_version) ENTRY(us_socket_tls_cipher) \
    ENTRY(us_socket_tls_alpn) ENTRY(us_socket_tls_is_resumed) ENTRY(us_socket_context_tls_settings) \
    ENTRY(us_socket_context_refuse_server_name) ENTRY(us_socket_context_prepare) ENTRY(us_socket_context_renew) \
    ENTRY(us_hostname_fit) ENTRY(us_hostname_valid) \
    ENTRY(ck_context_create) ENTRY(ck_context_create_tls) ENTRY(ck_context_close) ENTRY(ck_context_stats) \
    ENTRY(ck_context_listen) ENTRY(ck_context_listen_unix) ENTRY(ck_context_connect) ENTRY(ck_context_connect_unix) \
    ENTRY(ck_context_adopt) ENTRY(ck_context_verify) ENTRY(ck_context_peer_name) ENTRY(ck_context_protocols) \
    ENTRY(ck_context_protocol) ENTRY(ck_socket_write) ENTRY(ck_socket_write_large) ENTRY(ck_socket_send_file) \
    ENTRY(ck_socket_buffered) ENTRY(ck_socket_cork) ENTRY(ck_socket_uncork) ENTRY(ck_socket_flush) \
    ENTRY(ck_socket_sends) ENTRY(ck_socket_shutdown) ENTRY(ck_socket_end) ENTRY(ck_socket_close) \
    ENTRY(ck_socket_pause) ENTRY(ck_socket_timeout) ENTRY(ck_socket_long_timeout) ENTRY(ck_socket_port) \
    ENTRY(ck_socket_descriptor) ENTRY(ck_timer_create) ENTRY(ck_timer_set) ENTRY(ck_timer_close) \
    ENTRY(ck_app_add_server_name) ENTRY(ck_app_remove_server_name) ENTRY(ck_app_missing_server_name) \
    ENTRY(ck_app_refuse_server_name) ENTRY(ck_app_prepare) ENTRY(ck_app_renew) ENTRY(ck_app_domain) \
    ENTRY(us_socket_server_name) \
    ENTRY(ck_udp_corks) \
    ENTRY(ck_certificate_text) ENTRY(us_socket_peer_certificate) ENTRY(us_certificate_text) \
    ENTRY(us_socket_context_on_plain_prefix)

#define CK_API_MEMBER(name) CK_API_POINTER(name) name;

typedef struct ck_api {
    uint32_t size;        /* of the table that the library has, in bytes */
    uint32_t abi_version; /* CK_ABI_VERSION of the library */
    CK_API(CK_API_MEMBER)
} ck_api;

#undef CK_API_MEMBER

#ifdef __cplusplus
}
#endif

#endif
