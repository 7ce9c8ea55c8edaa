"""Name the numbers that the C interface returns and takes.

Written in the order of corkbind.h; tests/abi compares every one of them with
the header and with the table that the built library carries.
"""

from __future__ import annotations

from typing import Final

CK_ABI_VERSION: Final = 3

# enum ck_result
CK_OK: Final = 0
CK_EXPIRED: Final = -1
CK_FINISHED: Final = -2
CK_ABORTED: Final = -3
CK_THREAD: Final = -4
CK_NAME: Final = -5
CK_VALUE: Final = -6
CK_STATUS: Final = -7
CK_FRAMING: Final = -8
CK_LENGTH: Final = -9
CK_STARTED: Final = -10
CK_NOMEM: Final = -11
CK_STATE: Final = -12
CK_NOLOOP: Final = -13

# Flags of ck_end and its kin.
CK_NETWORK_SIZE: Final = 17
CK_CLOSE: Final = 1

# enum ck_body_mode
CK_BODY_COLLECT: Final = 1
CK_BODY_STREAM: Final = 2

# enum ck_body_event
CK_BODY_COMPLETE: Final = 0
CK_BODY_INCOMPLETE: Final = 1
CK_BODY_TOO_LARGE: Final = 2
CK_BODY_MALFORMED: Final = 3

# enum ck_abort_reason
CK_ABORT_CLIENT: Final = 0
CK_ABORT_TIMEOUT: Final = 1
CK_ABORT_SERVER: Final = 2
CK_ABORT_BODY: Final = 3

# enum ck_flush_reason: indices of ck_stats.flushes
CK_FLUSH_UNCORK: Final = 0
CK_FLUSH_FULL: Final = 1
CK_FLUSH_SLOW: Final = 2
CK_FLUSH_EXPLICIT: Final = 3
CK_FLUSH_ITERATION: Final = 4
CK_FLUSH_CLOSE: Final = 5
CK_FLUSH_EVICTED: Final = 6
CK_FLUSH_VECTORED: Final = 7
CK_FLUSH_REASONS: Final = 8

# enum ck_connection_state
CK_CONNECTION_IDLE: Final = 0
CK_CONNECTION_HEAD: Final = 1
CK_CONNECTION_BODY: Final = 2
CK_CONNECTION_HANDLER: Final = 3
CK_CONNECTION_RESPONSE: Final = 4
CK_CONNECTION_LINGER: Final = 5
CK_CONNECTION_WEBSOCKET: Final = 6

# enum ck_connection_order
CK_BY_AGE: Final = 0
CK_BY_BACKLOG: Final = 1
CK_BY_BYTES: Final = 2

# enum ck_client_state
CK_CLIENT_ACCEPTED: Final = 1
CK_CLIENT_SHUT: Final = 2
CK_CLIENT_CLOSED: Final = 4
CK_CLIENT_RESET: Final = 8

# enum ck_call
CK_CALL_SOCKET: Final = 0
CK_CALL_BIND: Final = 1
CK_CALL_LISTEN: Final = 2
CK_CALL_ACCEPT: Final = 3
CK_CALL_SETSOCKOPT: Final = 4
CK_CALL_GETSOCKOPT: Final = 5
CK_CALL_GETSOCKNAME: Final = 6
CK_CALL_GETPEERNAME: Final = 7
CK_CALL_RECV: Final = 8
CK_CALL_SEND: Final = 9
CK_CALL_SHUTDOWN: Final = 10
CK_CALL_CLOSE: Final = 11
CK_CALL_UNLINK: Final = 12
CK_CALL_EPOLL_CREATE: Final = 13
CK_CALL_EPOLL_CTL: Final = 14
CK_CALL_EPOLL_WAIT: Final = 15
CK_CALL_EVENTFD: Final = 16
CK_CALL_TIMERFD_CREATE: Final = 17
CK_CALL_TIMERFD_SETTIME: Final = 18
CK_CALL_READ: Final = 19
CK_CALL_WRITE: Final = 20
CK_CALL_OPEN_SPARE: Final = 21
CK_CALLS: Final = 22

# enum ck_loopback_counter
CK_COUNT_MEMORY: Final = 0
CK_COUNT_DESCRIPTORS: Final = 1
CK_COUNT_ALLOCATIONS: Final = 2
CK_COUNT_FAULTS: Final = 3

# enum ck_certificate_field
CK_CERTIFICATE_SUBJECT: Final = 0
CK_CERTIFICATE_ISSUER: Final = 1
CK_CERTIFICATE_COMMON_NAME: Final = 2
CK_CERTIFICATE_SERIAL: Final = 3
CK_CERTIFICATE_NOT_BEFORE: Final = 4
CK_CERTIFICATE_NOT_AFTER: Final = 5
CK_CERTIFICATE_NAMES: Final = 6

# enum ck_ws_event
CK_WS_EVENT_TEXT: Final = 1
CK_WS_EVENT_BINARY: Final = 2
CK_WS_EVENT_CLOSED: Final = 8
CK_WS_EVENT_PING: Final = 9
CK_WS_EVENT_PONG: Final = 10
CK_WS_EVENT_DRAIN: Final = 16
CK_WS_EVENT_DROPPED: Final = 17
CK_WS_EVENT_SUBSCRIPTION: Final = 18

CK_TOPIC_BYTES: Final = 1024

# enum ck_socket_event
CK_SOCKET_ACCEPTED: Final = 1
CK_SOCKET_CONNECTED: Final = 2
CK_SOCKET_CONNECT_ERROR: Final = 3
CK_SOCKET_DATA: Final = 4
CK_SOCKET_DRAIN: Final = 5
CK_SOCKET_END: Final = 6
CK_SOCKET_TIMEOUT: Final = 7
CK_SOCKET_LONG_TIMEOUT: Final = 8
CK_SOCKET_CLOSED: Final = 9
CK_SOCKET_TIMER: Final = 10

# enum ck_socket_written
CK_SOCKET_WAITS: Final = 0
CK_SOCKET_SENT: Final = 1

# enum ck_ws_sent
CK_WS_WAITS: Final = 0
CK_WS_SENT: Final = 1
CK_WS_DROPPED: Final = 2

# enum ck_udp_event
CK_UDP_EVENT_DATA: Final = 1
CK_UDP_EVENT_DRAIN: Final = 2
CK_UDP_EVENT_ERROR: Final = 3
CK_UDP_EVENT_CLOSED: Final = 4

# Flags of ck_udp_create
CK_UDP_MANUAL: Final = 1
CK_UDP_DETAILS: Final = 2

# The longest buffer that an int of a hot row can name.
HOT_LENGTH: Final = 0x7FFFFFFF
