/* Reading a request without Python: borrowed bytes, valid until the callback returns
 * or while the exchange is kept. */
#include "http.h"

static size_t size(int length)
{
    return length > 0 ? (size_t) length : 0;
}

static int lend(const ck_exchange *exchange, ck_span span, const char **value)
{
    *value = exchange->data + span.offset;
    return (int) span.length; /* a head is much shorter than 2 GiB */
}

int ck_header_value(uint32_t handle, const char *name, int length, const char **value)
{
    int error;
    const ck_exchange *exchange = ck_exchange_of(handle, &error);
    if (!exchange) {
        return error;
    }
    int found = ck_head_find(&exchange->head, exchange->data, name, size(length), 0);
    if (found < 0) {
        return CK_VALUE;
    }
    *value = exchange->data + exchange->head.fields[found].value_offset;
    return exchange->head.fields[found].value_length;
}

int ck_field_value(uint32_t handle, int index, const char **name, int *name_length, const char **value)
{
    int error;
    const ck_exchange *exchange = ck_exchange_of(handle, &error);
    if (!exchange) {
        return error;
    }
    if (index < 0 || index >= exchange->head.field_count) {
        return CK_VALUE;
    }
    const ck_field *field = &exchange->head.fields[index];
    *name = exchange->data + field->name_offset;
    *name_length = field->name_length;
    *value = exchange->data + field->value_offset;
    return field->value_length;
}

int ck_path_value(uint32_t handle, const char **value)
{
    int error;
    const ck_exchange *exchange = ck_exchange_of(handle, &error);
    if (!exchange) {
        return error;
    }
    if (!exchange->head.path.length) {
        *value = exchange->head.asterisk ? "*" : "/";
        return 1;
    }
    return lend(exchange, exchange->head.path, value);
}

int ck_method_value(uint32_t handle, const char **value)
{
    int error;
    const ck_exchange *exchange = ck_exchange_of(handle, &error);
    return exchange ? lend(exchange, exchange->head.method_name, value) : error;
}

int ck_target_value(uint32_t handle, const char **value)
{
    int error;
    const ck_exchange *exchange = ck_exchange_of(handle, &error);
    return exchange ? lend(exchange, exchange->head.target, value) : error;
}

int ck_query_value(uint32_t handle, const char **value)
{
    int error;
    const ck_exchange *exchange = ck_exchange_of(handle, &error);
    return exchange ? lend(exchange, exchange->head.query, value) : error;
}

int ck_host_value(uint32_t handle, const char **value)
{
    int error;
    const ck_exchange *exchange = ck_exchange_of(handle, &error);
    return exchange ? lend(exchange, exchange->head.host, value) : error;
}

int ck_parameter_value(uint32_t handle, int index, const char **value)
{
    int error;
    const ck_exchange *exchange = ck_exchange_of(handle, &error);
    if (!exchange) {
        return error;
    }
    if (index < 0 || index >= exchange->match.parameter_count) {
        return CK_VALUE;
    }
    ck_span span = exchange->match.parameters[index];
    *value = exchange->data + exchange->head.path.offset + span.offset;
    return (int) span.length;
}

int ck_remote_address_value(uint32_t handle, char *address)
{
    int error;
    const ck_exchange *exchange = ck_exchange_of(handle, &error);
    struct us_socket_t *s = exchange ? ck_exchange_socket(exchange) : NULL;
    if (!s) {
        return error;
    }
    int length = 16;
    us_socket_remote_address(0, s, address, &length);
    return length > 0 ? length : 0;
}

int64_t ck_body_value(uint32_t handle, const char **value)
{
    int error;
    const ck_exchange *exchange = ck_exchange_of(handle, &error);
    if (!exchange) {
        return error;
    }
    if (exchange->body_state != CK_BODY_DONE) {
        return CK_STATE;
    }
    *value = exchange->body ? exchange->body : "";
    return (int64_t) exchange->body_length;
}
