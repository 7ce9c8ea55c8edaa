/* Fuzzes the whole server over a system-call table in memory. An input is a byte
 * that chooses limits and whether routes are native, then operations: clients
 * connect, send, stop, reset, read slowly or not at all; sends and receives fail;
 * time passes; memory runs out; and the application answers, streams, waits, closes,
 * late or never. What a handler does is the next byte of the input too.
 *
 * After each operation: descriptors as in the model, memory within what the limits
 * allow, nobody told of an end twice or of anything after it. At the end: what
 * each client heard is read by a strict client, answer by answer, against the
 * requests that the reference readers see in what it sent; nothing is left; and a
 * second run leaves the same trace. */
#include "counted.h"
#include "fuzz.h"
#include "mutate_http.h"
#include "reference_chunked.h"
#include "reference_http.h"
#include "response_reader.h"

enum { CLIENTS = 6, KEPT_MAX = 2048, OPERATIONS_MAX = 300, REQUESTS_MAX = 512, BODY = 60000 };

const size_t fuzz_prefix = 1;

struct kept {
    uint32_t handle;
    bool released, aborted, last;
};

static struct {
    fuzz_input in;
    peer *clients[CLIENTS];
    int client_count;
    struct kept kept[KEPT_MAX];
    unsigned kept_count;
    long descriptors; /* before the first client */
    uint64_t trace;
} run;

static char body_text[BODY];

static void trace(uint64_t what)
{
    run.trace = (run.trace ^ what) * 1099511628211U;
}

/* ---- The application ---- */

static struct kept *kept_of(uint32_t handle)
{
    for (unsigned i = 0; i < run.kept_count; i++)
        if (run.kept[i].handle == handle)
            return &run.kept[i];
    return NULL;
}

static void keep(uint32_t handle)
{
    int result = ck_keep(handle);
    struct kept *kept = kept_of(handle);
    trace((uint64_t)(int64_t)result);
    if (result != CK_OK)
        return;
    if (!kept) {
        DEMAND(run.kept_count < KEPT_MAX);
        kept = &run.kept[run.kept_count++];
        kept->handle = handle;
    }
    kept->released = false; /* also when it was let go earlier in its callback */
}

static void release(uint32_t handle)
{
    struct kept *kept = kept_of(handle);
    trace((uint64_t)(int64_t)ck_release(handle));
    if (kept)
        kept->released = true;
}

static int some_length(void)
{
    static const int lengths[] = {0, 1, 5, 100, 8191, 8192, 16384, 16385, 40000, BODY};
    return lengths[fuzz_byte(&run.in) % 10];
}

/* Does what the next byte says with an exchange. 0, also at the input's end, answers. */
static void act(uint32_t handle)
{
    int result = 0;
    switch (fuzz_byte(&run.in) % 25) {
    case 0:
    case 1: result = ck_send(handle, 200, "a/b", 3, "hello", 5, 0); break;
    case 2: result = ck_end(handle, body_text, some_length(), 0); break;
    case 3: keep(handle); break;
    case 4:
        keep(handle);
        result = ck_write(handle, body_text, some_length());
        break;
    case 5: result = ck_write(handle, body_text, some_length()); break;
    case 6: result = ck_close(handle); break;
    case 7: result = ck_fail(handle); break;
    case 8: release(handle); break;
    case 9:
        keep(handle);
        result = ck_body_ask(handle, CK_BODY_COLLECT);
        break;
    case 10:
        keep(handle);
        result = ck_body_ask(handle, CK_BODY_STREAM);
        break;
    case 11: result = ck_want_writable(handle); break;
    case 12: result = ck_pause(handle, fuzz_byte(&run.in) & 1); break;
    case 13: result = ck_flush(handle); break;
    case 14: result = ck_cork(handle); break;
    case 15: result = ck_uncork(handle); break;
    case 16: result = ck_end_without_body(handle, (int64_t)fuzz_byte(&run.in) - 1, 0); break;
    case 17: result = ck_try_end(handle, body_text, (size_t)some_length(), 40000, 0); break;
    case 18: result = ck_status(handle, 200 + fuzz_byte(&run.in)); break;
    case 19: result = field(handle, "Content-Length", fuzz_byte(&run.in) & 1 ? "5" : "8192"); break;
    case 20: result = ck_write_continue(handle); break;
    case 21: result = ck_set_yield(handle, 1); break;
    case 22: result = ck_end(handle, "bye", 3, CK_CLOSE); break;
    case 23: result = ck_body_limit(handle, fuzz_byte(&run.in)); break;
    default: break;
    }
    trace((uint64_t)(int64_t)result);
}

static void act_some(uint32_t handle)
{
    for (unsigned n = 1 + fuzz_byte(&run.in) % 3; n > 0; n--)
        act(handle);
}

static void on_any(uint32_t handle)
{
    trace(1);
    DEMAND(!kept_of(handle) || !kept_of(handle)->aborted);
    act_some(handle);
}

static void on_any_aborted(uint32_t handle)
{
    struct kept *kept = kept_of(handle);
    trace(2 + (uint64_t)world.event);
    DEMAND(kept && !kept->aborted && !kept->released);
    kept->aborted = true;
    if (fuzz_byte(&run.in) & 1)
        act(handle);
}

static void on_any_news(uint32_t handle)
{
    struct kept *kept = kept_of(handle);
    trace(10 + (uint64_t)world.event);
    DEMAND(!kept || !kept->aborted);
    act(handle);
}

static void part_arrived(uint32_t handle, size_t length)
{
    struct kept *kept = kept_of(handle);
    trace(20 + (uint64_t)world.event);
    trace(length);
    DEMAND(!kept || (!kept->aborted && !kept->last));
    if (kept)
        kept->last = world.event;
    act(handle);
}

static void on_any_data(uint32_t handle)
{
    part_arrived(handle, world.part->length);
}

/* ---- The same application, whose routes are native ---- */

static void read_all(const char *data, size_t length)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < length; i++)
        sum += (unsigned char)data[i];
    trace(sum);
}

static void native_aborted(uint32_t exchange, int reason, void *user)
{
    DEMAND(user == &run);
    world.event = reason;
    on_any_aborted(exchange);
}

static void native_body(uint32_t exchange, int event, void *user)
{
    const char *body = NULL;
    int64_t length = ck_body_value(exchange, &body);
    DEMAND(user == &run && (length >= 0) == (event == CK_BODY_COMPLETE));
    read_all(body, length > 0 ? (size_t)length : 0);
    world.event = event;
    on_any_news(exchange);
}

static void native_data(uint32_t exchange, const char *data, size_t length, int last, void *user)
{
    DEMAND(user == &run);
    read_all(data, length);
    world.event = last;
    part_arrived(exchange, length);
}

static void native_writable(uint32_t exchange, void *user)
{
    DEMAND(user == &run);
    world.event = 0;
    on_any_news(exchange);
}

static const ck_follower native_follower = {native_aborted, native_body, native_data, native_writable};

static void read_request(uint32_t exchange)
{
    const char *name, *value;
    int name_length, length;
    for (int i = 0; (length = ck_field_value(exchange, i, &name, &name_length, &value)) >= 0; i++) {
        read_all(name, (size_t)name_length);
        read_all(value, (size_t)length);
    }
    DEMAND((length = ck_target_value(exchange, &value)) > 0);
    read_all(value, (size_t)length);
    DEMAND((length = ck_query_value(exchange, &value)) >= 0);
    read_all(value, (size_t)length);
    for (int i = 0; (length = ck_parameter_value(exchange, i, &value)) >= 0; i++)
        read_all(value, (size_t)length);
}

static void native_request(uint32_t exchange, void *user)
{
    DEMAND(ck_follow(exchange, &native_follower, user) == CK_OK);
    read_request(exchange);
    on_any(exchange);
}

static void serve_native(const char *path)
{
    int any = ck_method_id("*", 1);
    DEMAND(ck_app_route_native(world.app, any, path, strlen(path), native_request, &run, -1) == 0);
}

/* ---- The clients ---- */

static const char *const requests[] = {
    GET("/a"), GET("/b?c"), GET("/none"), GET("/fixed"), "HEAD /a HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\nhello world",
    "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nA: b\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 11\r\n\r\n", "hello world",
    "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "DELETE /fixed HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "GET /a HTTP/1.0\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nfffff\r\n", "GET /a HTTP/1.1\r\nHost",
    "HEAD /a HTTP/1.1\r\nHost: a\r\nContent-Length: 99999\r\n\r\n", "GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "\r\n",
};

static peer *some_client(void)
{
    return run.client_count ? run.clients[fuzz_byte(&run.in) % run.client_count] : NULL;
}

static void send_inline(peer *client)
{
    size_t length;
    const char *text = fuzz_text(&run.in, &length);
    if (length > 0)
        arrive(client, text, length);
}

static void send_request(peer *client)
{
    const char *request = requests[fuzz_byte(&run.in) % (sizeof requests / sizeof *requests)];
    uint8_t cut = fuzz_byte(&run.in);
    size_t length = strlen(request);
    if (cut > 0 && cut < length) {
        arrive(client, request, cut);
        trace((uint64_t)ck_loop_step());
        arrive(client, request + cut, length - cut);
    } else {
        arrive(client, request, length);
    }
}

static int some_errno(void)
{
    static const int numbers[] = {0, ECONNRESET, EPIPE, ETIMEDOUT, EHOSTUNREACH};
    return numbers[fuzz_byte(&run.in) % 5];
}

static void disturb(peer *client, unsigned how)
{
    switch (how) {
    case 0: client->fin = true; break;
    case 1: client->receive_error = client->send_error = ECONNRESET; break;
    case 2: client->room = fuzz_byte(&run.in) * 100; break;
    case 3: client->room = UNLIMITED; break;
    case 4: client->most = fuzz_byte(&run.in) * 50; break;
    case 5: client->send_error = some_errno(); break;
    default: client->receive_error = some_errno(); break;
    }
}

static void operate(void)
{
    unsigned operation = fuzz_byte(&run.in) % 18;
    peer *client = operation < 10 ? some_client() : NULL;
    if (operation == 10) {
        if (run.client_count < CLIENTS)
            run.clients[run.client_count++] = dial();
        return;
    }
    if (operation < 10 && !client)
        return;
    switch (operation) {
    case 0: send_inline(client); break;
    case 1:
    case 2: send_request(client); break;
    case 11: pass_granules(1 + fuzz_byte(&run.in) % 5); break;
    case 12:
        world.fail_at = world.allocations + fuzz_byte(&run.in) % 12;
        world.fail_on = fuzz_byte(&run.in) & 1;
        break;
    case 13: world.fail_at = 0; break;
    case 14: world.read_most = fuzz_byte(&run.in); break;
    case 15:
        if (run.kept_count)
            act_some(run.kept[fuzz_byte(&run.in) % run.kept_count].handle);
        break;
    case 16: trace((uint64_t)ck_loop_step()); break;
    case 17: world.now_ns += fuzz_byte(&run.in) * (int64_t)100000; break;
    default: disturb(client, operation - 3); break;
    }
}

/* ---- What must hold ---- */

static long open_clients(void)
{
    long open = 0;
    for (int i = 0; i < run.client_count; i++)
        open += run.clients[i]->fd && !run.clients[i]->closed;
    return open;
}

static void check_turn(void)
{
    size_t each = 2 * ((size_t)world.limits.backlog + 2 * BODY) + world.limits.pipeline + world.limits.window + 131072;
    DEMAND(world.descriptors == run.descriptors + open_clients());
    DEMAND(counted.bytes < 1000000 + CLIENTS * each);
    DEMAND(checks_failed == 0);
    forget_log();
}

/* What a client asked for: the methods of its requests, as the reference readers see them. */
static size_t count_requests(const peer *client, bool *head_methods)
{
    static reference_head head;
    const reference_limits limits = {world.limits.line, world.limits.head, world.limits.field, world.limits.fields};
    size_t at = 0, count = 0;
    while (at < client->in_length && count < REQUESTS_MAX) {
        const char *data = client->in + at;
        size_t left = client->in_length - at;
        reference_head_read(&head, data, left, &limits);
        if (head.result != 1)
            break;
        head_methods[count++] = fuzz_same(data + head.method.offset, head.method.length, "HEAD", 4);
        at += head.used;
        left -= head.used;
        if (head.framing.chunked) {
            reference_chunked body = {.limit = UINT64_MAX, .data = malloc(left + 1), .trailers = malloc(left + 1)};
            DEMAND(body.data && body.trailers);
            reference_chunked_read(&body, client->in + at, left);
            free(body.data);
            free(body.trailers);
            if (body.result != 1)
                break;
            at += body.used;
        } else if (head.framing.content_length > 0) {
            if ((uint64_t)head.framing.content_length > left)
                break;
            at += (size_t)head.framing.content_length;
        }
    }
    return count;
}

/* One answer a request, in order; one more at most, which refuses and is the last. */
static void check_heard(const peer *client)
{
    static response found;
    static bool head_methods[REQUESTS_MAX];
    size_t requests_seen = count_requests(client, head_methods), answers = 0;
    const char *data = heard(client);
    size_t left = client->out_length;
    bool last = false;
    while (left > 0) {
        bool head_only = answers < requests_seen && head_methods[answers];
        DEMAND(!last);
        enum response_result result = response_read(&found, data, left, head_only, true);
        free(found.decoded);
        DEMAND(result != RESPONSE_BAD);
        if (result == RESPONSE_INCOMPLETE)
            break; /* cut off by the close, which the client can tell */
        data += found.length;
        left -= found.length;
        if (found.status < 200)
            continue;
        DEMAND(++answers <= requests_seen || (answers == requests_seen + 1 && found.close && found.status >= 400));
        last = found.close;
        bool unread = found.status == 503 || found.status == 408; /* no room for it, or it came too late */
        if (last && head_only && unread && found.content_length == left)
            left = 0; /* an answer from before anybody knew of the HEAD has a body */
    }
}

/* ---- Runs ---- */

static const ck_limits limit_choices[] = {
    {.body = 1048576, .backlog = 16777216, .line = 8192, .head = 32768, .field = 16384, .fields = 100,
        .pipeline = 65536, .window = 65536, .head_seconds = 12, .idle_seconds = 12, .body_seconds = 12,
        .handler_seconds = 60, .rate = 240},
    {.body = 10, .backlog = 20000, .line = 64, .head = 128, .field = 64, .fields = 4, .pipeline = 100, .window = 8,
        .head_seconds = 4, .idle_seconds = 8, .body_seconds = 4, .handler_seconds = 8, .rate = 240},
    {.body = 100000, .backlog = 1000, .line = 100, .head = 1000, .field = 100, .fields = 20, .pipeline = 10, .window = 0,
        .connections = 2},
};

static void open_everything(uint8_t choice)
{
    const ck_limits *limits = &limit_choices[choice % 3];
    reset_world();
    count_memory();
#ifdef OVER_TLS
    tls_pipe_open();
#endif
    DEMAND(try_open_server(limits));
    if (choice & 128) {
        serve_native("/a");
        serve_native("/*");
    } else {
        serve("*", "/a", on_any);
        serve("*", "/*", on_any);
    }
    DEMAND(ck_app_fixed(world.app, ck_method_id("GET", 3), "/fixed", 6, 200, "A: b\r\n", 6, "fixed", 5) == 0);
    world.aborted = on_any_aborted;
    world.body = world.writable = on_any_news;
    world.data = on_any_data;
    run.descriptors = world.descriptors;
}

static void release_all(void)
{
    for (unsigned i = 0; i < run.kept_count; i++)
        if (!run.kept[i].released)
            release(run.kept[i].handle);
    settle();
}

/* Clients go, the application lets go: then no exchange may be left. */
static void end_everything(void)
{
    world.fail_at = 0;
    run.in.length = 0;
    settle();
    for (int i = 0; i < run.client_count; i++)
        reset(run.clients[i]);
    release_all();
    release_all();
    DEMAND(open_clients() == 0 && ck_loop_handles() == 2); /* the app and its listener */
    for (int i = 0; i < run.client_count; i++) {
        trace(run.clients[i]->out_length);
        for (size_t k = 0; k < run.clients[i]->out_length; k++)
            trace((unsigned char)run.clients[i]->out[k]);
        check_heard(run.clients[i]);
    }
    close_server();
#ifdef OVER_TLS
    tls_pipe_close();
#endif
    DEMAND(counted.bytes == 0 && checks_failed == 0);
}

static uint64_t run_once(const uint8_t *input, size_t size)
{
    memset(&run, 0, sizeof run);
    run.in = (fuzz_input){input, size};
    run.trace = 14695981039346656037U;
    open_everything(fuzz_byte(&run.in));
    run.clients[run.client_count++] = dial();
    for (int i = 0; i < OPERATIONS_MAX && run.in.length > 0; i++) {
        uint8_t settles = *run.in.data;
        operate();
        if (settles & 128)
            settle();
        check_turn();
    }
    end_everything();
    return run.trace;
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
    if (body_text[0] == '\0')
        memset(body_text, 'x', sizeof body_text);
    uint64_t first = run_once(input, size);
#ifdef OVER_TLS
    if (!fuzz_is_repeated(input, size))
        return 0;
#endif
    DEMAND(run_once(input, size) == first);
    return 0;
}
