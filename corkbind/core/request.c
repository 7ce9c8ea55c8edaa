/* Reading a request: what the application sees of it, as Python objects. */
#include <string.h>

#include "http.h"
#include "python.h"

static ck_python py;
static void *entries;
static void *entry_failed;
static void *websocket_entry;
static void *socket_entry;

void ck_python_bind(const ck_python *python)
{
    py = *python;
}

const ck_python *ck_python_bound(void)
{
    return &py;
}

void ck_python_entries(void *list, void *websocket, void *socket, void *failed)
{
    entries = list;
    websocket_entry = websocket;
    socket_entry = socket;
    entry_failed = failed;
}

static void let_go(void *object)
{
    if (object) {
        py.decref(object);
    }
}

static void take_error(void *error[3])
{
    error[0] = error[1] = error[2] = NULL;
    py.error_fetch(&error[0], &error[1], &error[2]);
}

static void let_go_error(void *error[3])
{
    let_go(error[0]);
    let_go(error[1]);
    let_go(error[2]);
}

void ck_python_forget_error(void)
{
    void *error[3];
    take_error(error);
    let_go_error(error);
}

/* Hands an exception to Python. What comes of that is not looked at: a second
 * exception ends here. */
static void hand_over_error(void)
{
    void *error[3];
    take_error(error);
    py.error_normalize(&error[0], &error[1], &error[2]);
    if (error[1]) {
        let_go(py.call(entry_failed, error[1], (void *) NULL));
        ck_python_forget_error();
    }
    let_go_error(error);
}

void ck_python_request(const ck_loop *loop, int route, uint32_t handle)
{
    if (loop->callbacks.request) {
        loop->callbacks.request(route, handle);
        return;
    }
    void *entry = py.list_item(entries, route);
    void *argument = entry ? py.integer((long) handle) : NULL;
    void *result = argument ? py.call(entry, argument, (void *) NULL) : NULL;
    let_go(argument);
    let_go(result);
    if (!result) {
        hand_over_error();
    }
}

static void call_entry(void *entry, uint32_t handle, int event, void *payload, int number)
{
    void *who = py.integer((long) handle);
    void *what = who ? py.integer(event) : NULL;
    void *code = what ? py.integer(number) : NULL;
    void *result = code ? py.call(entry, who, what, payload, code, (void *) NULL) : NULL;
    let_go(who);
    let_go(what);
    let_go(code);
    let_go(result);
    if (!result) {
        hand_over_error();
    }
}

void ck_python_websocket(const ck_loop *loop, uint32_t handle, int event, void *payload, int number)
{
    if (loop->callbacks.websocket) {
        loop->callbacks.websocket(handle, event, payload, number);
    } else {
        call_entry(websocket_entry, handle, event, payload, number);
    }
}

void ck_python_socket(const ck_loop *loop, uint32_t handle, int event, void *payload, int number)
{
    if (loop->callbacks.socket) {
        loop->callbacks.socket(handle, event, payload, number);
    } else {
        call_entry(socket_entry, handle, event, payload, number);
    }
}

bool ck_python_data(ck_exchange *exchange, const char *data, size_t length, bool last)
{
    void *bytes = py.bytes_new(data, (ptrdiff_t) length);
    if (!bytes) {
        return false;
    }
    exchange->loop->callbacks.data(exchange->handle, bytes, last);
    py.decref(bytes);
    return true;
}

/* Says why there is no exchange. A NULL without an exception would be taken for
 * an object by some bindings. */
void *ck_python_stale(int error)
{
    py.error_set(py.value_error, error == CK_THREAD ? "the handle belongs to another thread" : "the handle is stale");
    return NULL;
}

static void *none(void)
{
    py.incref(py.none);
    return py.none;
}

static void *text(const char *data, size_t length)
{
    return py.latin1(data, (ptrdiff_t) length, NULL);
}

static void *span_text(const ck_exchange *exchange, ck_span span)
{
    return text(exchange->data + span.offset, span.length);
}

size_t ck_python_length(const char *bytes)
{
    ptrdiff_t length;
    memcpy(&length, bytes - py.bytes_length, sizeof(length));
    return (size_t) length;
}

void *ck_py_method(uint32_t handle)
{
    int error;
    const ck_exchange *exchange = ck_exchange_of(handle, &error);
    return exchange ? span_text(exchange, exchange->head.method_name) : ck_python_stale(error);
}

void *ck_py_target(uint32_t handle)
{
    int error;
    const ck_exchange *exchange = ck_exchange_of(handle, &error);
    return exchange ? span_text(exchange, exchange->head.target) : ck_python_stale(error);
}

void *ck_py_path(uint32_t handle)
{
    int error;
    const ck_exchange *exchange = ck_exchange_of(handle, &error);
    if (exchange && !exchange->head.path.length) {
        return text(exchange->head.asterisk ? "*" : "/", 1);
    }
    return exchange ? span_text(exchange, exchange->head.path) : ck_python_stale(error);
}

void *ck_py_query(uint32_t handle)
{
    int error;
    const ck_exchange *exchange = ck_exchange_of(handle, &error);
    return exchange ? span_text(exchange, exchange->head.query) : ck_python_stale(error);
}

void *ck_py_host(uint32_t handle)
{
    int error;
    const ck_exchange *exchange = ck_exchange_of(handle, &error);
    if (exchange && !exchange->head.host.length) {
        return none();
    }
    return exchange ? span_text(exchange, exchange->head.host) : ck_python_stale(error);
}

/* ---- Fields ---- */

/* RFC 9110 S5.3: repeated fields are one list; Cookie has a separator of its own
 * (RFC 9113 S8.2.3). */
static void *joined(const ck_exchange *exchange, const char *name, size_t length, int first)
{
    const ck_head *head = &exchange->head;
    const char *separator = length == 6 && memcmp(name, "cookie", 6) == 0 ? "; " : ", ";
    size_t total = 0;
    for (int i = first; i >= 0; i = ck_head_find(head, exchange->data, name, length, i + 1)) {
        total += head->fields[i].value_length + 2u;
    }
    char *memory = ck_alloc(exchange->loop, total);
    if (!memory) {
        return py.error_no_memory();
    }
    char *at = memory;
    for (int i = first; i >= 0; i = ck_head_find(head, exchange->data, name, length, i + 1)) {
        if (at != memory) {
            memcpy(at, separator, 2);
            at += 2;
        }
        memcpy(at, exchange->data + head->fields[i].value_offset, head->fields[i].value_length);
        at += head->fields[i].value_length;
    }
    void *result = text(memory, (size_t) (at - memory));
    ck_free(exchange->loop, memory);
    return result;
}

void *ck_py_header(uint32_t handle, const char *name, int length)
{
    int error;
    const ck_exchange *exchange = ck_exchange_of(handle, &error);
    if (!exchange) {
        return ck_python_stale(error);
    }
    const ck_head *head = &exchange->head;
    size_t size = length > 0 ? (size_t) length : 0;
    int first = ck_head_find(head, exchange->data, name, size, 0);
    if (first < 0) {
        return none();
    }
    if (ck_head_find(head, exchange->data, name, size, first + 1) >= 0) {
        return joined(exchange, name, size, first);
    }
    return text(exchange->data + head->fields[first].value_offset, head->fields[first].value_length);
}

/* Appends (lower-case name, value); names are at most a field long. */
static bool append_pair(void *list, const char *name, size_t name_length, const char *value, size_t value_length)
{
    char lower[256];
    char *at = lower;
    void *key;
    if (name_length <= sizeof(lower)) {
        for (size_t i = 0; i < name_length; i++) {
            *at++ = (char) (name[i] >= 'A' && name[i] <= 'Z' ? name[i] | 0x20 : name[i]);
        }
        key = text(lower, name_length);
    } else {
        key = text(name, name_length); /* no registered name is that long */
    }
    void *content = key ? text(value, value_length) : NULL;
    void *pair = content ? py.tuple_pack(2, key, content) : NULL;
    bool appended = pair && py.list_append(list, pair) == 0;
    if (pair) {
        py.decref(pair);
    }
    if (content) {
        py.decref(content);
    }
    if (key) {
        py.decref(key);
    }
    return appended;
}

void *ck_py_headers(uint32_t handle)
{
    int error;
    const ck_exchange *exchange = ck_exchange_of(handle, &error);
    void *list = exchange ? py.list_new(0) : ck_python_stale(error);
    if (!list) {
        return NULL;
    }
    for (int i = 0; i < exchange->head.field_count; i++) {
        const ck_field *field = &exchange->head.fields[i];
        if (!append_pair(list, exchange->data + field->name_offset, field->name_length,
                exchange->data + field->value_offset, field->value_length)) {
            py.decref(list);
            return NULL;
        }
    }
    return list;
}

/* The section has been checked line by line on its way in. */
void *ck_py_trailers(uint32_t handle)
{
    int error;
    const ck_exchange *exchange = ck_exchange_of(handle, &error);
    void *list = exchange ? py.list_new(0) : ck_python_stale(error);
    if (!list || exchange->body_state != CK_BODY_DONE) {
        return list;
    }
    const char *at = exchange->trailers;
    const char *end = at ? at + exchange->trailers_length : NULL;
    while (at && at < end) {
        const char *line_end = memchr(at, '\r', (size_t) (end - at));
        const char *colon = line_end ? memchr(at, ':', (size_t) (line_end - at)) : NULL;
        if (!colon) {
            break;
        }
        const char *value = colon + 1;
        const char *value_end = line_end;
        while (value < value_end && (*value == ' ' || *value == '\t')) {
            value++;
        }
        while (value_end > value && (value_end[-1] == ' ' || value_end[-1] == '\t')) {
            value_end--;
        }
        if (!append_pair(list, at, (size_t) (colon - at), value, (size_t) (value_end - value))) {
            py.decref(list);
            return NULL;
        }
        at = line_end + 2;
    }
    return list;
}

/* ---- The rest ---- */

void *ck_py_parameter(uint32_t handle, int index)
{
    int error;
    const ck_exchange *exchange = ck_exchange_of(handle, &error);
    if (!exchange) {
        return ck_python_stale(error);
    }
    if (index < 0 || index >= exchange->match.parameter_count) {
        return none();
    }
    ck_span span = exchange->match.parameters[index];
    return text(exchange->data + exchange->head.path.offset + span.offset, span.length);
}

int ck_parameter_count(uint32_t handle)
{
    int error;
    const ck_exchange *exchange = ck_exchange_of(handle, &error);
    return exchange ? exchange->match.parameter_count : error;
}

int ck_http_minor(uint32_t handle)
{
    int error;
    const ck_exchange *exchange = ck_exchange_of(handle, &error);
    return exchange ? exchange->head.minor_version : error;
}

void *ck_py_remote_address(uint32_t handle)
{
    int error;
    const ck_exchange *exchange = ck_exchange_of(handle, &error);
    if (!exchange) {
        return ck_python_stale(error);
    }
    char address[16];
    int length = 0;
    struct us_socket_t *s = ck_exchange_socket(exchange);
    if (s) {
        length = (int) sizeof(address);
        us_socket_remote_address(0, s, address, &length);
    }
    return length > 0 ? py.bytes_new(address, length) : none();
}

void *ck_py_proxied_address(uint32_t handle)
{
    int error;
    const ck_exchange *exchange = ck_exchange_of(handle, &error);
    if (!exchange) {
        return ck_python_stale(error);
    }
    const ck_proxied *proxied = exchange->connection ? &exchange->connection->proxied : NULL;
    return proxied && proxied->length ? py.bytes_new((const char *) proxied->address, proxied->length) : none();
}

int ck_proxied_port(uint32_t handle)
{
    int error;
    const ck_exchange *exchange = ck_exchange_of(handle, &error);
    if (!exchange) {
        return error;
    }
    return exchange->connection ? exchange->connection->proxied.port : 0;
}

int ck_remote_port(uint32_t handle)
{
    int error;
    const ck_exchange *exchange = ck_exchange_of(handle, &error);
    if (!exchange) {
        return error;
    }
    struct us_socket_t *s = ck_exchange_socket(exchange);
    return s ? us_socket_remote_port(0, s) : 0;
}

void *ck_py_body_take(uint32_t handle)
{
    int error;
    const ck_exchange *exchange = ck_exchange_of(handle, &error);
    if (!exchange) {
        return ck_python_stale(error);
    }
    if (exchange->body_state != CK_BODY_DONE) {
        return none();
    }
    return py.bytes_new(exchange->body ? exchange->body : "", (ptrdiff_t) exchange->body_length);
}
