/* Responses by handle: the entries that an application calls. */
#include "python.h"
#include "response.h"
#include "scan.h"

int ck_status(uint32_t handle, int status)
{
    int error;
    ck_exchange *exchange = ck_exchange_writable(handle, &error);
    return exchange ? ck_head_status(exchange, status) : error;
}

int ck_status_line(uint32_t handle, const char *text, int length)
{
    int error;
    ck_exchange *exchange = ck_exchange_writable(handle, &error);
    return exchange ? ck_head_status_line(exchange, text, length > 0 ? (size_t) length : 0) : error;
}

int ck_write_large(uint32_t handle, const char *data, size_t length)
{
    int error;
    ck_exchange *exchange = ck_exchange_writable(handle, &error);
    return exchange ? ck_response_part(exchange, data, length) : error;
}

int ck_write(uint32_t handle, const char *data, int length)
{
    return ck_write_large(handle, data, length > 0 ? (size_t) length : 0);
}

int ck_try_end(uint32_t handle, const char *data, size_t length, uint64_t total, int flags)
{
    int error;
    ck_exchange *exchange = ck_exchange_writable(handle, &error);
    if (!exchange) {
        return error;
    }
    exchange->close = exchange->close || (flags & CK_CLOSE);
    return ck_response_try_part(exchange, data, length, total);
}

int ck_header(uint32_t handle, const char *name, int name_length, const char *value, int value_length)
{
    int error;
    ck_exchange *exchange = ck_exchange_writable(handle, &error);
    if (!exchange) {
        return error;
    }
    if (name_length < 0 || value_length < 0) {
        return CK_VALUE;
    }
    return ck_head_field(exchange, name, (size_t) name_length, value, (size_t) value_length);
}

int ck_header_bytes(uint32_t handle, const char *name, const char *value)
{
    int error;
    ck_exchange *exchange = ck_exchange_writable(handle, &error);
    return exchange ? ck_head_field(exchange, name, ck_python_length(name), value, ck_python_length(value)) : error;
}

int ck_end_large(uint32_t handle, const char *data, size_t length, int flags)
{
    int error;
    ck_exchange *exchange = ck_exchange_writable(handle, &error);
    return exchange ? ck_response_end(exchange, data, length, flags) : error;
}

int ck_end(uint32_t handle, const char *data, int length, int flags)
{
    return ck_end_large(handle, data, length > 0 ? (size_t) length : 0, flags);
}

int ck_end_bytes(uint32_t handle, const char *data)
{
    return ck_end_large(handle, data, ck_python_length(data), 0);
}

int ck_send(uint32_t handle, int status, const char *type, int type_length, const char *data, int length, int flags)
{
    int error;
    ck_exchange *exchange = ck_exchange_writable(handle, &error);
    if (!exchange) {
        return error;
    }
    if (type_length > 0 && ck_scan_value(type, (size_t) type_length) != (size_t) type_length) {
        return CK_VALUE;
    }
    if (status && (error = ck_head_status(exchange, status)) < 0) {
        return error;
    }
    if (type_length > 0 && !exchange->has_type) {
        error = ck_head_field(exchange, "Content-Type", 12, type, (size_t) type_length);
        if (error != CK_OK) {
            return error;
        }
    }
    return ck_response_end(exchange, data, length > 0 ? (size_t) length : 0, flags);
}

int ck_end_without_body(uint32_t handle, int64_t length, int flags)
{
    int error;
    ck_exchange *exchange = ck_exchange_writable(handle, &error);
    if (!exchange) {
        return error;
    }
    if (exchange->phase != CK_RESPONSE_BODY && length >= 0 && exchange->head.method == CK_HEAD && !exchange->has_length) {
        exchange->has_length = true;
        exchange->declared = (uint64_t) length;
    } else if (length > 0 && exchange->head.method != CK_HEAD) {
        return CK_LENGTH;
    }
    return ck_response_end(exchange, "", 0, flags);
}

int64_t ck_write_offset(uint32_t handle)
{
    int error;
    const ck_exchange *exchange = ck_exchange_of(handle, &error);
    return exchange ? (int64_t) exchange->written : error;
}

int ck_set_write_offset(uint32_t handle, uint64_t offset)
{
    int error;
    ck_exchange *exchange = ck_exchange_writable(handle, &error);
    if (!exchange) {
        return error;
    }
    if (exchange->phase == CK_RESPONSE_BODY && offset != exchange->written) {
        return CK_STARTED; /* the head has said how many bytes follow */
    }
    exchange->written = offset;
    return CK_OK;
}

int ck_want_writable(uint32_t handle)
{
    int error;
    ck_exchange *exchange = ck_exchange_writable(handle, &error);
    if (exchange) {
        exchange->want_writable = true;
    }
    return error;
}

int ck_has_started(uint32_t handle)
{
    int error;
    const ck_exchange *exchange = ck_exchange_of(handle, &error);
    return exchange ? exchange->phase != CK_RESPONSE_IDLE && exchange->phase != CK_RESPONSE_ABORTED : error;
}

int ck_buffered_amount(uint32_t handle)
{
    int error;
    const ck_exchange *exchange = ck_exchange_of(handle, &error);
    if (!exchange || !exchange->connection) {
        return exchange ? 0 : error;
    }
    size_t amount = ck_stream_buffered(&exchange->connection->stream);
    return amount > INT32_MAX ? INT32_MAX : (int) amount;
}

int ck_sends(uint32_t handle)
{
    int error;
    const ck_exchange *exchange = ck_exchange_of(handle, &error);
    if (!exchange) {
        return error;
    }
    if (exchange->phase == CK_RESPONSE_FINISHED) {
        return (int) (exchange->flushes_after - exchange->flushes_before);
    }
    bool begun = exchange->connection && exchange->phase != CK_RESPONSE_IDLE;
    return begun ? (int) (exchange->connection->stream.flushes - exchange->flushes_before) : 0;
}

int ck_fail(uint32_t handle)
{
    int error;
    ck_exchange *exchange = ck_exchange_of(handle, &error);
    if (!exchange) {
        return error;
    }
    if (exchange->phase == CK_RESPONSE_IDLE || exchange->phase == CK_RESPONSE_ABORTED) {
        return exchange->phase == CK_RESPONSE_IDLE ? CK_OK : CK_ABORTED;
    }
    if (ck_response_rollback(exchange)) {
        return CK_OK;
    }
    if (exchange->phase == CK_RESPONSE_FINISHED) {
        return CK_FINISHED;
    }
    exchange->phase = CK_RESPONSE_ABORTED; /* the caller knows: nobody need be told */
    ck_connection_close(exchange->connection, CK_ABORT_SERVER);
    return CK_STARTED;
}
