/* Raw sockets by handle: the entries that an application calls. */
#include <errno.h>
#include <limits.h>
#include <string.h>

#include "python.h"
#include "raw.h"

/* CLOSE_SECONDS: in which the peer takes what was written before a close. */
enum { CLOSE_SECONDS = 32, TIMEOUT_MAX = 960, LONG_TIMEOUT_MAX = 240 };

static ck_socket *socket_of(uint32_t handle, int *error)
{
    return ck_loop_object(handle, CK_KIND_SOCKET, error);
}

/* ---- Writing ---- */

static ck_socket *writable(uint32_t handle, int *error)
{
    ck_socket *socket = socket_of(handle, error);
    if (socket && socket->shut) {
        *error = CK_FINISHED;
        return NULL;
    }
    if (socket && socket->stream.broken) {
        *error = CK_ABORTED;
        return NULL;
    }
    return socket;
}

/* Too much waits already: the socket is closed rather than that memory grows without end. */
static bool overloaded(ck_socket *socket)
{
    uint64_t most = socket->context->backlog;
    if (!most || !ck_stream_waits(&socket->stream) || ck_stream_buffered(&socket->stream) < most) {
        return false;
    }
    ck_socket_close_now(socket, ENOBUFS);
    return true;
}

/* What has become of what was written. */
static int written(ck_socket *socket)
{
    if (!ck_stream_waits(&socket->stream)) {
        return CK_SOCKET_SENT;
    }
    socket->awaited = true;
    return CK_SOCKET_WAITS;
}

static int write_bytes(uint32_t handle, const char *data, size_t length)
{
    int error;
    ck_socket *socket = writable(handle, &error);
    if (!socket) {
        return error;
    }
    if (overloaded(socket)) {
        return CK_ABORTED;
    }
    ck_stream *stream = &socket->stream;
    bool at_once = socket->context->manual && stream->depth == 0 && length > 0;
    int result = at_once ? ck_stream_send(stream, data, length, CK_FLUSH_EXPLICIT) : ck_stream_write(stream, data, length);
    if (result < 0) {
        return result;
    }
    return written(socket);
}

int ck_socket_write(uint32_t handle, const char *data, int length)
{
    return write_bytes(handle, data, length > 0 ? (size_t) length : 0);
}

int ck_socket_write_large(uint32_t handle, const char *data, size_t length)
{
    return write_bytes(handle, data, length);
}

int ck_socket_send_file(uint32_t handle, int file, int64_t offset, uint64_t length)
{
    int error;
    ck_socket *socket = writable(handle, &error);
    if (!socket) {
        return error;
    }
    int result = ck_stream_send_file(&socket->stream, file, offset, length);
    if (result < 0) {
        return result;
    }
    return written(socket);
}

int ck_socket_buffered(uint32_t handle)
{
    int error;
    const ck_socket *socket = socket_of(handle, &error);
    if (!socket) {
        return error;
    }
    size_t bytes = ck_stream_buffered(&socket->stream);
    return bytes > INT_MAX ? INT_MAX : (int) bytes;
}

/* ---- Corking ---- */

int ck_socket_cork(uint32_t handle)
{
    int error;
    ck_socket *socket = socket_of(handle, &error);
    return socket ? ck_stream_cork(&socket->stream) : error;
}

int ck_socket_uncork(uint32_t handle)
{
    int error;
    ck_socket *socket = socket_of(handle, &error);
    return socket ? ck_stream_uncork(&socket->stream) : error;
}

int ck_socket_flush(uint32_t handle)
{
    int error;
    ck_socket *socket = socket_of(handle, &error);
    if (!socket) {
        return error;
    }
    ck_stream_flush_now(&socket->stream);
    return socket->stream.broken ? CK_ABORTED : CK_OK;
}

int ck_socket_sends(uint32_t handle)
{
    int error;
    const ck_socket *socket = socket_of(handle, &error);
    return socket ? (int) (socket->stream.own.sends & INT_MAX) : error;
}

/* ---- The end ---- */

/* What is packed leaves at its time, and behind it the end. */
static int end(uint32_t handle, bool close)
{
    int error;
    ck_socket *socket = socket_of(handle, &error);
    if (!socket) {
        return error;
    }
    if (socket->shut && (!close || socket->close_due)) {
        return CK_FINISHED;
    }
    socket->shut = true;
    socket->close_due = close;
    socket->shutdown_due = !close;
    if (close && socket->phase == CK_SOCKET_OPEN) {
        us_socket_long_timeout(0, socket->stream.socket, 0);
        us_socket_timeout(0, socket->stream.socket, CLOSE_SECONDS);
        us_socket_read_enabled(socket->stream.socket, 1); /* so that the peer's end is seen */
    }
    socket->stream.kind->sent_later(&socket->stream); /* unless the end of a cork comes first */
    return CK_OK;
}

int ck_socket_shutdown(uint32_t handle)
{
    return end(handle, false);
}

int ck_socket_end(uint32_t handle)
{
    return end(handle, true);
}

int ck_socket_close(uint32_t handle, int code)
{
    int error;
    ck_socket *socket = socket_of(handle, &error);
    if (socket) {
        ck_socket_close_now(socket, code);
    }
    return error;
}

/* ---- Reading and timeouts ---- */

int ck_socket_pause(uint32_t handle, int paused)
{
    int error;
    ck_socket *socket = socket_of(handle, &error);
    if (socket && socket->phase == CK_SOCKET_OPENING) { /* a handshake has to be read */
        socket->paused = paused != 0;
    } else if (socket && !socket->close_due) {
        us_socket_read_enabled(socket->stream.socket, !paused);
    }
    return error;
}

int ck_socket_timeout(uint32_t handle, int seconds)
{
    int error;
    ck_socket *socket = socket_of(handle, &error);
    if (socket && !socket->close_due) {
        int most = seconds > TIMEOUT_MAX ? TIMEOUT_MAX : seconds;
        us_socket_timeout(0, socket->stream.socket, most > 0 ? (unsigned) most : 0);
    }
    return error;
}

int ck_socket_long_timeout(uint32_t handle, int minutes)
{
    int error;
    ck_socket *socket = socket_of(handle, &error);
    if (socket && !socket->close_due) {
        int most = minutes > LONG_TIMEOUT_MAX ? LONG_TIMEOUT_MAX : minutes;
        us_socket_long_timeout(0, socket->stream.socket, most > 0 ? (unsigned) most : 0);
    }
    return error;
}

/* ---- Questions ---- */

int ck_socket_port(uint32_t handle, int remote)
{
    int error;
    const ck_socket *socket = socket_of(handle, &error);
    if (!socket) {
        return error;
    }
    struct us_socket_t *us = socket->stream.socket;
    int port = remote ? us_socket_remote_port(0, us) : us_socket_local_port(0, us);
    return port < 0 ? 0 : port;
}

int ck_socket_descriptor(uint32_t handle)
{
    int error;
    const ck_socket *socket = socket_of(handle, &error);
    if (!socket) {
        return error;
    }
    return us_poll_fd((struct us_poll_t *) socket->stream.socket);
}

static void *stale(int error)
{
    const ck_python *py = ck_python_bound();
    py->error_set(py->value_error, error == CK_THREAD ? "the handle belongs to another thread" : "the handle is stale");
    return NULL;
}

void *ck_py_socket_tls(uint32_t handle)
{
    int error;
    const ck_socket *socket = socket_of(handle, &error);
    return socket ? ck_py_facts(socket->stream.socket) : stale(error);
}

void *ck_py_socket_certificate(uint32_t handle)
{
    int error;
    const ck_socket *socket = socket_of(handle, &error);
    return socket ? ck_py_certificate(socket->stream.loop, socket->stream.socket) : stale(error);
}

void *ck_py_socket_address(uint32_t handle)
{
    int error;
    const ck_python *py = ck_python_bound();
    const ck_socket *socket = socket_of(handle, &error);
    char address[16];
    int length = sizeof(address);
    if (!socket) {
        return stale(error);
    }
    us_socket_remote_address(0, socket->stream.socket, address, &length);
    return py->bytes_new(address, length);
}
