/* Fuzzes the writer of responses. An input is a byte that says what the request
 * was, then calls as an application makes them, with the texts it passes.
 *
 * The calls that were accepted are noted in a model. A strict client then reads
 * what was sent: it must find one message that says what the model says, nothing
 * in it that a text smuggled in, and after it the answer to the next request, or
 * an end. The calls are made three times: inside the callback, corked later, and
 * with no cork and every part sent at once; the bytes must be the same. */
#include "fuzz.h"
#include "response_reader.h"
#include "server.h"

enum { CALLS_MAX = 64, FIELDS_MAX = 128, BODY_MAX = 1 << 20, SAME_BYTES = 255 * 80 };

enum way { IN_CALLBACK, CORKED_LATER, UNCORKED, WAYS };

/* What the accepted calls have said. */
static struct {
    fuzz_input script;
    bool head_method, ended, failed, unsure, body_begun, closing;
    int status;
    response_part reason;
    response_part names[FIELDS_MAX], values[FIELDS_MAX];
    size_t field_count;
    bool date;
    char body[BODY_MAX];
    size_t body_length;
} model;

static char repeated[SAME_BYTES];
static enum way way;
static uint32_t kept;

static response_part next_text(void)
{
    response_part part;
    part.text = fuzz_text(&model.script, &part.length);
    return part;
}

/* A text, or many bytes that are the same. */
static response_part next_body(void)
{
    unsigned length = fuzz_byte(&model.script);
    response_part part = {repeated, length * 80};
    if (length & 1)
        return part;
    part.text = fuzz_bytes(&model.script, length / 2, &part.length);
    return part;
}

static void note_body(response_part part)
{
    model.body_begun = true;
    if (model.body_length + part.length > BODY_MAX) {
        model.unsure = true;
        return;
    }
    if (part.length > 0)
        memcpy(model.body + model.body_length, part.text, part.length);
    model.body_length += part.length;
}

static bool is_name(response_part part, const char *name)
{
    return response_part_is(part, name);
}

static void note_field(response_part name, response_part value)
{
    model.status = model.status ? model.status : 200;
    if (is_name(name, "connection") || is_name(name, "content-length"))
        return; /* the server writes these itself */
    DEMAND(!is_name(name, "transfer-encoding"));
    model.date = model.date || is_name(name, "date");
    if (model.field_count == FIELDS_MAX) {
        model.unsure = true;
        return;
    }
    model.names[model.field_count] = name;
    model.values[model.field_count++] = value;
}

static void call_header(uint32_t handle, response_part name, response_part value)
{
    if (ck_header(handle, name.text, (int)name.length, value.text, (int)value.length) == CK_OK)
        note_field(name, value);
}

static void call_status(uint32_t handle)
{
    int status = 190 + 2 * fuzz_byte(&model.script);
    if (ck_status(handle, status) == CK_OK)
        model.status = status;
}

static void call_status_line(uint32_t handle)
{
    response_part line = next_text();
    if (ck_status_line(handle, line.text, (int)line.length) != CK_OK)
        return;
    model.status = (line.text[0] - '0') * 100 + (line.text[1] - '0') * 10 + (line.text[2] - '0');
    size_t skipped = line.length > 3 ? 4 : 3;
    model.reason = (response_part){line.text + skipped, line.length - skipped};
}

static void call_write(uint32_t handle)
{
    response_part part = next_body();
    if (ck_write(handle, part.text, (int)part.length) >= 0)
        note_body(part);
}

static void call_end(uint32_t handle)
{
    response_part part = next_body();
    bool closing = part.length % 7 == 6;
    if (ck_end(handle, part.text, (int)part.length, closing ? CK_CLOSE : 0) == CK_OK) {
        model.closing = closing; /* too late for the head, perhaps */
        note_body(part);
        model.ended = true;
    }
}

/* Whether a Content-Type was there decides whether another one is written. */
static void call_send(uint32_t handle)
{
    int status = fuzz_byte(&model.script) * 2;
    response_part type = next_text(), part = next_body();
    bool typed = type.length == 0;
    for (size_t i = 0; i < model.field_count; i++)
        typed = typed || is_name(model.names[i], "content-type");
    bool given = status && ck_status(handle, status) == CK_OK;
    if (given)
        model.status = status;
    if (ck_send(handle, given ? 0 : status, type.text, (int)type.length, part.text, (int)part.length, 0) != CK_OK) {
        model.unsure = true; /* status and type may stand */
        return;
    }
    if (!typed)
        note_field((response_part){"Content-Type", 12}, type);
    note_body(part);
    model.ended = true;
}

static void call_end_without_body(uint32_t handle)
{
    model.ended = ck_end_without_body(handle, (int64_t)fuzz_byte(&model.script) - 1, 0) == CK_OK;
}

static void call_try_end(uint32_t handle)
{
    response_part part = next_body();
    uint64_t total = (uint64_t)fuzz_byte(&model.script) * 50;
    int64_t before = ck_write_offset(handle);
    int result = ck_try_end(handle, part.text, part.length, total, 0);
    if (result < 0) {
        model.unsure = true; /* a total that was announced stands */
        return;
    }
    int64_t taken = ck_write_offset(handle) - before;
    bool bodiless = model.head_method || model.status == 204 || model.status == 304;
    DEMAND(bodiless || (taken >= 0 && (size_t)taken <= part.length));
    part.length = bodiless ? 0 : (size_t)taken;
    note_body(part);
    model.ended = result & 2;
}

static void call_fail(uint32_t handle)
{
    model.failed = true;
    if (ck_fail(handle) != CK_OK)
        return;
    model.status = 0;
    model.reason = (response_part){NULL, 0};
    model.field_count = model.body_length = 0;
    model.date = model.ended = model.body_begun = model.closing = false;
}

static void make_call(uint32_t handle)
{
    static const char *const own[][2] = {
        {"Content-Length", "5"}, {"content-length", "0"}, {"Connection", "close"}, {"Connection", "keep-alive"},
        {"Date", "today"}, {"Content-Type", "a/b"}, {"Transfer-Encoding", "chunked"}, {"Content-Length", "400"},
    };
    uint8_t call = fuzz_byte(&model.script);
    response_part name, value;
    switch (call % 16) {
    case 0:
    case 1:
        name = next_text(), value = next_text();
        call_header(handle, name, value);
        break;
    case 2: call_status(handle); break;
    case 3: call_status_line(handle); break;
    case 4:
    case 5: call_write(handle); break;
    case 6: call_end(handle); break;
    case 7: call_send(handle); break;
    case 8: call_end_without_body(handle); break;
    case 9: call_try_end(handle); break;
    case 10: (void)ck_flush(handle); break;
    case 11: call_fail(handle); break;
    case 12: (void)ck_set_write_offset(handle, call & 16 ? UINT64_MAX - fuzz_byte(&model.script) : fuzz_byte(&model.script)); break;
    case 13: (void)ck_write_continue(handle); break;
    case 14:
        name = (response_part){"X-Many", 6}, value = (response_part){repeated, (size_t)fuzz_byte(&model.script) * 40};
        call_header(handle, name, value);
        break;
    default:
        name = (response_part){own[call / 16 % 8][0], strlen(own[call / 16 % 8][0])};
        value = (response_part){own[call / 16 % 8][1], strlen(own[call / 16 % 8][1])};
        call_header(handle, name, value);
        break;
    }
}

static void make_calls(uint32_t handle)
{
    for (int i = 0; i < CALLS_MAX && model.script.length > 0 && !model.ended; i++) {
        make_call(handle);
        if (way == UNCORKED && model.body_begun)
            (void)ck_flush(handle);
    }
    if (!model.ended)
        model.ended = ck_end(handle, "", 0, 0) == CK_OK;
    if (!model.ended)
        (void)ck_close(handle);
}

static void on_first(uint32_t handle)
{
    if (way == IN_CALLBACK) {
        make_calls(handle);
        return;
    }
    kept = handle;
    DEMAND(ck_keep(handle) == CK_OK);
}

static void on_next(uint32_t handle)
{
    DEMAND(ck_end(handle, "next", 4, 0) == CK_OK);
}

/* ---- What was heard ---- */

static void demand_fields(const response *found)
{
    size_t at = 0;
    for (size_t i = 0; i < found->field_count; i++) {
        response_part name = found->fields[i].name, value = found->fields[i].value;
        bool server_date = is_name(name, "date") && !model.date;
        if (server_date || is_name(name, "content-length") || is_name(name, "transfer-encoding") || is_name(name, "connection"))
            continue;
        DEMAND(at < model.field_count);
        response_part wanted = model.values[at];
        while (wanted.length > 0 && (wanted.text[0] == ' ' || wanted.text[0] == '\t'))
            wanted.text++, wanted.length--;
        while (wanted.length > 0 && (wanted.text[wanted.length - 1] == ' ' || wanted.text[wanted.length - 1] == '\t'))
            wanted.length--;
        DEMAND(fuzz_same(name.text, name.length, model.names[at].text, model.names[at].length));
        DEMAND(fuzz_same(value.text, value.length, wanted.text, wanted.length));
        at++;
    }
    DEMAND(at == model.field_count);
}

static void demand_as_model(const response *found)
{
    bool bodiless = model.head_method || found->status == 204 || found->status == 304;
    DEMAND(found->status == (model.status ? model.status : 200));
    DEMAND(!model.reason.text || fuzz_same(found->reason.text, found->reason.length, model.reason.text, model.reason.length));
    demand_fields(found);
    if (!bodiless)
        DEMAND(fuzz_same(found->body.text, found->body.length, model.body, model.body_length));
}

static void demand_next(const char *data, size_t length)
{
    static response next;
    DEMAND(response_read(&next, data, length, false, true) == RESPONSE_WHOLE);
    DEMAND(next.length == length && next.status == 200 && response_part_is(next.body, "next"));
    free(next.decoded);
}

static void check_heard(const peer *client)
{
    static response found;
    const char *data = heard(client);
    size_t length = client->out_length;
    enum response_result result = response_read(&found, data, length, model.head_method, client->closed || client->shut);
    for (; result == RESPONSE_WHOLE && found.status < 200; result = response_read(&found, data, length, model.head_method,
        client->closed || client->shut)) {
        DEMAND(found.status == 100 && found.field_count == 0);
        data += found.length, length -= found.length;
    }
    DEMAND(result != RESPONSE_BAD);
    if (!model.ended) {
        DEMAND(client->closed || client->shut);
    } else {
        DEMAND(result == RESPONSE_WHOLE);
        if (!model.unsure && !model.failed)
            demand_as_model(&found);
        if (found.close || model.closing) {
            DEMAND(found.length == length && (client->shut || client->closed));
        } else {
            demand_next(data + found.length, length - found.length);
        }
    }
    free(found.decoded);
}

/* ---- Runs ---- */

static void reset_model(const uint8_t *input, size_t size)
{
    model.script = (fuzz_input){input, size};
    model.ended = model.failed = model.unsure = model.body_begun = model.date = model.closing = false;
    model.status = 0;
    model.reason = (response_part){NULL, 0};
    model.field_count = model.body_length = 0;
}

static void ask(peer *client, uint8_t kind)
{
    static const char *const methods[] = {"GET", "HEAD", "POST"};
    char request[256];
    const char *method = methods[kind % 3];
    model.head_method = kind % 3 == 1;
    int length = snprintf(request, sizeof request, "%s /first HTTP/1.%d\r\nHost: a\r\n%s\r\nGET /next HTTP/1.1\r\nHost: a\r\n\r\n",
        method, kind & 4 ? 0 : 1, kind & 8 ? "Connection: keep-alive\r\n" : "");
    feed_bytes(client, request, (size_t)length);
}

/* One server serves all inputs: opening one takes longer than a run. */
static void open_once(void)
{
    static bool opened;
    if (opened)
        return;
    opened = true;
    memset(repeated, 'x', sizeof repeated);
    open_server(NULL);
    serve("*", "/first", on_first);
    serve("GET", "/next", on_next);
}

/* Returns what was sent, to be freed. */
static char *run(const uint8_t *input, size_t size, size_t *length)
{
    reset_model(input, size);
    uint8_t kind = fuzz_byte(&model.script);
    kept = 0;
    int handles = ck_loop_handles();
    long descriptors = world.descriptors;
    peer *client = dial();
    ask(client, kind);
    if (way != IN_CALLBACK) {
        DEMAND(way == UNCORKED || ck_cork(kept) == CK_OK);
        make_calls(kept);
        if (way == CORKED_LATER)
            (void)ck_uncork(kept);
        (void)ck_release(kept);
        settle();
    }
    check_heard(client);
    *length = client->out_length;
    char *sent = fuzz_copy(heard(client), *length);
    finish(client);
    DEMAND(client->closed && ck_loop_handles() == handles && world.descriptors == descriptors);
    free_peers();
    forget_log();
    DEMAND(checks_failed == 0);
    return sent;
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
    size_t lengths[WAYS];
    char *sent[WAYS];
    open_once();
    for (way = IN_CALLBACK; way < WAYS; way++)
        sent[way] = run(input, size, &lengths[way]);
    for (int other = CORKED_LATER; other < WAYS; other++)
        DEMAND(model.failed || fuzz_same(sent[0], lengths[0], sent[other], lengths[other]));
    for (int each = 0; each < WAYS; each++)
        free(sent[each]);
    return 0;
}
