/* The library's description of itself: what a binding compares its own copies with. */
#include "corkbind.h"

#define SIZE(type) {"sizeof " #type, (int64_t) sizeof(type)}
#define OFFSET(type, member) {"offsetof " #type "." #member, (int64_t) offsetof(type, member)}
#define VALUE(name) {#name, name}

static const ck_abi_entry table[] = {
    VALUE(CK_ABI_VERSION),
    VALUE(CK_OK), VALUE(CK_EXPIRED), VALUE(CK_FINISHED), VALUE(CK_ABORTED), VALUE(CK_THREAD), VALUE(CK_NAME),
    VALUE(CK_VALUE), VALUE(CK_STATUS), VALUE(CK_FRAMING), VALUE(CK_LENGTH), VALUE(CK_STARTED), VALUE(CK_NOMEM),
    VALUE(CK_STATE), VALUE(CK_NOLOOP), VALUE(CK_NETWORK_SIZE), VALUE(CK_CLOSE),
    VALUE(CK_BODY_COLLECT), VALUE(CK_BODY_STREAM),
    VALUE(CK_BODY_COMPLETE), VALUE(CK_BODY_INCOMPLETE), VALUE(CK_BODY_TOO_LARGE), VALUE(CK_BODY_MALFORMED),
    VALUE(CK_ABORT_CLIENT), VALUE(CK_ABORT_TIMEOUT), VALUE(CK_ABORT_SERVER), VALUE(CK_ABORT_BODY),
    VALUE(CK_FLUSH_UNCORK), VALUE(CK_FLUSH_FULL), VALUE(CK_FLUSH_SLOW), VALUE(CK_FLUSH_EXPLICIT),
    VALUE(CK_FLUSH_ITERATION), VALUE(CK_FLUSH_CLOSE), VALUE(CK_FLUSH_EVICTED), VALUE(CK_FLUSH_VECTORED),
    VALUE(CK_FLUSH_REASONS),
    VALUE(CK_CONNECTION_IDLE), VALUE(CK_CONNECTION_HEAD), VALUE(CK_CONNECTION_BODY), VALUE(CK_CONNECTION_HANDLER),
    VALUE(CK_CONNECTION_RESPONSE), VALUE(CK_CONNECTION_LINGER), VALUE(CK_CONNECTION_WEBSOCKET), VALUE(CK_BY_AGE), VALUE(CK_BY_BACKLOG), VALUE(CK_BY_BYTES),
    VALUE(CK_CLIENT_ACCEPTED), VALUE(CK_CLIENT_SHUT), VALUE(CK_CLIENT_CLOSED), VALUE(CK_CLIENT_RESET),
    VALUE(CK_CALL_SOCKET), VALUE(CK_CALL_BIND), VALUE(CK_CALL_LISTEN), VALUE(CK_CALL_ACCEPT),
    VALUE(CK_CALL_SETSOCKOPT), VALUE(CK_CALL_GETSOCKOPT), VALUE(CK_CALL_GETSOCKNAME), VALUE(CK_CALL_GETPEERNAME),
    VALUE(CK_CALL_RECV), VALUE(CK_CALL_SEND), VALUE(CK_CALL_SHUTDOWN), VALUE(CK_CALL_CLOSE), VALUE(CK_CALL_UNLINK),
    VALUE(CK_CALL_EPOLL_CREATE), VALUE(CK_CALL_EPOLL_CTL), VALUE(CK_CALL_EPOLL_WAIT), VALUE(CK_CALL_EVENTFD),
    VALUE(CK_CALL_TIMERFD_CREATE), VALUE(CK_CALL_TIMERFD_SETTIME), VALUE(CK_CALL_READ), VALUE(CK_CALL_WRITE),
    VALUE(CK_CALL_OPEN_SPARE), VALUE(CK_CALLS),
    VALUE(CK_COUNT_MEMORY), VALUE(CK_COUNT_DESCRIPTORS), VALUE(CK_COUNT_ALLOCATIONS), VALUE(CK_COUNT_FAULTS),
    VALUE(CK_WS_EVENT_TEXT), VALUE(CK_WS_EVENT_BINARY), VALUE(CK_WS_EVENT_CLOSED), VALUE(CK_WS_EVENT_PING),
    VALUE(CK_WS_EVENT_PONG), VALUE(CK_WS_EVENT_DRAIN),
    VALUE(CK_WS_EVENT_DROPPED), VALUE(CK_WS_EVENT_SUBSCRIPTION), VALUE(CK_TOPIC_BYTES), VALUE(CK_WS_WAITS), VALUE(CK_WS_SENT), VALUE(CK_WS_DROPPED),
    VALUE(CK_SOCKET_ACCEPTED), VALUE(CK_SOCKET_CONNECTED), VALUE(CK_SOCKET_CONNECT_ERROR), VALUE(CK_SOCKET_DATA), VALUE(CK_SOCKET_DRAIN),
    VALUE(CK_SOCKET_END), VALUE(CK_SOCKET_TIMEOUT), VALUE(CK_SOCKET_LONG_TIMEOUT), VALUE(CK_SOCKET_CLOSED), VALUE(CK_SOCKET_TIMER),
    VALUE(CK_SOCKET_WAITS), VALUE(CK_SOCKET_SENT),
    VALUE(CK_UDP_EVENT_DATA), VALUE(CK_UDP_EVENT_DRAIN), VALUE(CK_UDP_EVENT_ERROR), VALUE(CK_UDP_EVENT_CLOSED),
    VALUE(CK_UDP_MANUAL), VALUE(CK_UDP_DETAILS),
    SIZE(ck_tls_options),
    OFFSET(ck_tls_options, key_file), OFFSET(ck_tls_options, certificate_file), OFFSET(ck_tls_options, passphrase),
    OFFSET(ck_tls_options, dh_file), OFFSET(ck_tls_options, ca_file), OFFSET(ck_tls_options, ciphers),
    OFFSET(ck_tls_options, low_memory), OFFSET(ck_tls_options, min_version), OFFSET(ck_tls_options, verify_optional),
    OFFSET(ck_tls_options, sni_strict), OFFSET(ck_tls_options, check_host),
    SIZE(ck_ws_limits),
    OFFSET(ck_ws_limits, message), OFFSET(ck_ws_limits, backlog), OFFSET(ck_ws_limits, idle_seconds),
    OFFSET(ck_ws_limits, close_seconds), OFFSET(ck_ws_limits, pings), OFFSET(ck_ws_limits, close_on_backlog),
    OFFSET(ck_ws_limits, idle_on_send), OFFSET(ck_ws_limits, lifetime_minutes),
    OFFSET(ck_ws_limits, compression),
    SIZE(ck_stats),
    OFFSET(ck_stats, requests), OFFSET(ck_stats, responses), OFFSET(ck_stats, sends), OFFSET(ck_stats, bytes),
    OFFSET(ck_stats, overflows), OFFSET(ck_stats, nested_corks), OFFSET(ck_stats, rollbacks),
    OFFSET(ck_stats, uncorked_writes), OFFSET(ck_stats, tls_records), OFFSET(ck_stats, tls_failures),
    OFFSET(ck_stats, refused), OFFSET(ck_stats, aborted),
    OFFSET(ck_stats, timeouts), OFFSET(ck_stats, connections), OFFSET(ck_stats, open), OFFSET(ck_stats, flushes),
    SIZE(ck_datagram_stats),
    OFFSET(ck_datagram_stats, datagrams), OFFSET(ck_datagram_stats, sends), OFFSET(ck_datagram_stats, bytes),
    OFFSET(ck_datagram_stats, received), OFFSET(ck_datagram_stats, receives), OFFSET(ck_datagram_stats, received_bytes),
    OFFSET(ck_datagram_stats, dropped), OFFSET(ck_datagram_stats, failed), OFFSET(ck_datagram_stats, lost),
    SIZE(ck_counters),
    OFFSET(ck_counters, requests), OFFSET(ck_counters, responses), OFFSET(ck_counters, sends),
    OFFSET(ck_counters, bytes), OFFSET(ck_counters, overflows), OFFSET(ck_counters, nested_corks),
    OFFSET(ck_counters, rollbacks), OFFSET(ck_counters, uncorked_writes), OFFSET(ck_counters, tls_records),
    OFFSET(ck_counters, flushes),
    SIZE(ck_connection_info),
    OFFSET(ck_connection_info, counters), OFFSET(ck_connection_info, packed), OFFSET(ck_connection_info, backlog),
    OFFSET(ck_connection_info, seconds), OFFSET(ck_connection_info, state), OFFSET(ck_connection_info, port),
    OFFSET(ck_connection_info, address_length), OFFSET(ck_connection_info, address),
    SIZE(ck_limits),
    OFFSET(ck_limits, body), OFFSET(ck_limits, backlog), OFFSET(ck_limits, line), OFFSET(ck_limits, head),
    OFFSET(ck_limits, field), OFFSET(ck_limits, fields), OFFSET(ck_limits, pipeline), OFFSET(ck_limits, window),
    OFFSET(ck_limits, head_seconds), OFFSET(ck_limits, idle_seconds), OFFSET(ck_limits, body_seconds),
    OFFSET(ck_limits, handler_seconds), OFFSET(ck_limits, rate), OFFSET(ck_limits, connections),
    SIZE(ck_callbacks),
    OFFSET(ck_callbacks, request), OFFSET(ck_callbacks, aborted), OFFSET(ck_callbacks, body),
    OFFSET(ck_callbacks, data), OFFSET(ck_callbacks, writable), OFFSET(ck_callbacks, deferred),
    OFFSET(ck_callbacks, uncorked), OFFSET(ck_callbacks, websocket), OFFSET(ck_callbacks, tls_failed),
    OFFSET(ck_callbacks, udp), OFFSET(ck_callbacks, socket), OFFSET(ck_callbacks, server_name),
    SIZE(ck_follower),
    OFFSET(ck_follower, aborted), OFFSET(ck_follower, body), OFFSET(ck_follower, data), OFFSET(ck_follower, writable),
    SIZE(ck_python),
    OFFSET(ck_python, bytes_new), OFFSET(ck_python, latin1), OFFSET(ck_python, utf8), OFFSET(ck_python, list_new),
    OFFSET(ck_python, list_append), OFFSET(ck_python, tuple_pack), OFFSET(ck_python, incref),
    OFFSET(ck_python, decref), OFFSET(ck_python, error_set), OFFSET(ck_python, error_no_memory),
    OFFSET(ck_python, none), OFFSET(ck_python, value_error), OFFSET(ck_python, integer),
    OFFSET(ck_python, call), OFFSET(ck_python, list_item), OFFSET(ck_python, error_fetch),
    OFFSET(ck_python, error_normalize), OFFSET(ck_python, integer_value), OFFSET(ck_python, bytes_view),
    OFFSET(ck_python, text_view),
    OFFSET(ck_python, error_occurred), OFFSET(ck_python, function_new), OFFSET(ck_python, bytes_length),
    {NULL, 0},
};

int ck_abi_version(void)
{
    return CK_ABI_VERSION;
}

const ck_abi_entry *ck_abi_table(void)
{
    return table;
}
