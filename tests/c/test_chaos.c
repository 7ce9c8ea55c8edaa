/* Everything at once, drawn from a seed: clients that send, split, stall, reset
 * and do not read; handlers and tasks that call any entry at any time; memory
 * that fails. What must hold at every moment: no sanitizer complains, nothing
 * leaks, nobody is told of an abort twice, and the loop comes to rest. Where
 * memory lasts, what each client hears is a sequence of whole responses. */
#include "http.h"

#include "server.h"

enum { CLIENTS = 6, HANDLES = 64, ROUNDS = 120, SEEDS = 250 };

static uint64_t state;

static unsigned draw(unsigned below)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (unsigned) (state >> 33) % below;
}

static uint32_t handles[HANDLES];
static uint32_t aborted[HANDLES * 16];
static unsigned aborted_count;
static bool calm; /* only well-formed traffic and whole answers */

static void keep_some(uint32_t handle)
{
    if (ck_keep(handle) == CK_OK) {
        unsigned place = draw(HANDLES);
        (void) ck_release(handles[place]); /* whoever was there is let go */
        handles[place] = handle;
    }
}

static char text[70000];

static int some_length(void)
{
    static const int lengths[] = {0, 1, 10, 100, 1000, 8191, 8192, 16383, 16384, 16385, 40000, 65000};
    return lengths[draw(12)];
}

static int some_status(void)
{
    int status = 200 + (int) draw(300);
    return status == 205 ? 200 : status; /* one with a body stays unfinished */
}

static void end_somehow(uint32_t handle)
{
    int length = some_length(); /* one draw a line, so that compilers agree on the order */
    switch (draw(calm ? 4 : 5)) {
    case 0:
        (void) ck_send(handle, some_status(), "a/b", 3, text, length, 0);
        break;
    case 1:
        (void) field(handle, "A", "b");
        (void) ck_status(handle, some_status());
        (void) ck_write(handle, text, some_length());
        (void) ck_end(handle, text, some_length(), 0);
        break;
    case 2:
        (void) ck_end_without_body(handle, (int64_t) draw(3) - 1, 0);
        break;
    case 3:
        (void) ck_end(handle, text, length, draw(20) == 0);
        break;
    default:
        (void) ck_try_end(handle, text, (size_t) some_length(), 40000, 0);
        (void) ck_want_writable(handle);
        break;
    }
}

static void do_anything(uint32_t handle)
{
    switch (draw(24)) {
    case 0:
        (void) ck_close(handle);
        break;
    case 1:
        (void) ck_fail(handle);
        break;
    case 2:
        (void) ck_flush(handle);
        break;
    case 3:
        (void) ck_cork(handle);
        break;
    case 4:
        (void) ck_uncork(handle);
        break;
    case 5:
        (void) ck_body_ask(handle, 1 + (int) draw(2));
        break;
    case 6:
        (void) ck_pause(handle, (int) draw(2));
        break;
    case 7:
        (void) ck_release(handle);
        break;
    case 8:
        (void) ck_write(handle, text, some_length());
        break;
    case 9:
        (void) field(handle, "Content-Length", draw(2) ? "10" : "16384");
        break;
    case 10:
        (void) ck_write_continue(handle);
        break;
    case 11:
        (void) ck_want_writable(handle);
        break;
    case 12:
        (void) ck_body_limit(handle, draw(20000));
        break;
    case 13:
        (void) ck_set_yield(handle, 1);
        break;
    case 14:
        (void) ck_loop_sweep();
        break;
    case 15:
        (void) ck_set_write_offset(handle, draw(50000));
        break;
    case 16:
    case 17:
        keep_some(handle);
        break;
    case 18:
        if (draw(30) == 0) {
            (void) ck_app_abort(world.app);
        }
        break;
    case 19:
        if (draw(200) == 0) {
            (void) ck_app_destroy(world.app);
        }
        break;
    default:
        end_somehow(handle);
        break;
    }
}

/* A task: a few calls on any handles, in a cork or not. */
static void run_task(void)
{
    uint32_t handle = handles[draw(HANDLES)];
    bool corked = draw(2) && ck_cork(handle) == CK_OK;
    for (unsigned n = draw(4); n > 0; n--) {
        if (calm) {
            end_somehow(handle);
        } else {
            do_anything(draw(4) ? handle : handles[draw(HANDLES)]);
        }
    }
    if (corked) {
        (void) ck_uncork(handle);
    }
}

static void on_chaos(uint32_t handle)
{
    if (draw(3) == 0) {
        keep_some(handle);
    }
    if (calm) {
        if (draw(2)) {
            (void) ck_send(handle, 0, "", 0, text, some_length(), 0);
        }
        return;
    }
    for (unsigned n = draw(4); n > 0; n--) {
        do_anything(handle);
    }
    if (draw(6) == 0) {
        run_task();
    }
}

static void on_chaos_aborted(uint32_t handle)
{
    for (unsigned i = 0; i < aborted_count; i++) {
        CHECK(aborted[i] != handle);
    }
    if (aborted_count < sizeof(aborted) / sizeof(aborted[0])) {
        aborted[aborted_count++] = handle;
    }
    if (!calm) {
        on_chaos(handle);
    }
}

static const char *const requests[] = {
    GET("/a"), GET("/fixed"), "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\nhello world",
    "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nA: b\r\n\r\n",
    "HEAD /a HTTP/1.1\r\nHost: a\r\n\r\n", GET("/b/c?d=e"), "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 11\r\n\r\nhello world",
    "GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\nhel",
    "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nfffff\r\nx", "bad\r\n\r\n", "GET / HTTP/1.0\r\n\r\n",
};

enum { CALM_REQUESTS = 4, ALL_REQUESTS = sizeof(requests) / sizeof(requests[0]) };

/* ---- Reading what a client heard ---- */

/* Returns the bytes of the response at `at`, or 0 when it is no whole one. */
static size_t response_length(const char *at, const char *end)
{
    const char *body = at < end ? strstr(at, "\r\n\r\n") : NULL;
    if (!body || strncmp(at, "HTTP/1.1 ", 9) != 0) {
        return 0;
    }
    body += 4;
    const char *length = strstr(at, "Content-Length: ");
    if (length && length < body) {
        size_t size = (size_t) atol(length + 16);
        return (size_t) (end - body) >= size ? (size_t) (body - at) + size : 0;
    }
    const char *chunked = strstr(at, "Transfer-Encoding: chunked\r\n");
    if (!chunked || chunked > body) {
        int status = atoi(at + 9);
        return status == 204 || status == 304 || status == 100 ? (size_t) (body - at) : 0;
    }
    for (size_t size = 1; size;) {
        char *line_end;
        size = strtoul(body, &line_end, 16);
        if (strncmp(line_end, "\r\n", 2) != 0 || (size_t) (end - line_end) < size + 4) {
            return 0;
        }
        body = line_end + 2 + size + 2;
    }
    return (size_t) (body - at);
}

static void check_whole_responses(const peer *client)
{
    const char *at = heard(client);
    const char *end = at + client->out_length;
    while (at < end) {
        size_t length = response_length(at, end);
        if (!CHECK(length > 0)) {
            return;
        }
        at += length;
    }
}

/* ---- Runs ---- */

static void disturb(peer *client)
{
    switch (draw(calm ? 4 : 12)) {
    case 0:
        client->room = UNLIMITED;
        break;
    case 1:
        client->room = (long) draw(30000);
        break;
    case 2:
        client->most = 1000 + draw(30000);
        break;
    case 3:
        world.read_most = draw(3) ? 0 : 20 + draw(200);
        break;
    case 4:
        client->fin = draw(3) == 0;
        break;
    case 5:
        client->receive_error = draw(3) == 0 ? ECONNRESET : 0;
        break;
    case 6:
        client->send_error = draw(3) == 0 ? EPIPE : 0;
        break;
    case 7:
        world.objects_fail = draw(5) == 0;
        break;
    default:
        break;
    }
}

static void send_something(peer *client)
{
    const char *request = requests[draw(calm ? CALM_REQUESTS : draw(3) ? CALM_REQUESTS + 4 : ALL_REQUESTS)];
    size_t length = strlen(request);
    for (unsigned n = 1 + draw(5); n > 0; n--) {
        size_t split = draw((unsigned) length);
        arrive(client, request, split);
        if (draw(2)) {
            CHECK(ck_loop_step() >= 0);
        }
        arrive(client, request + split, length - split);
    }
}

static void run_chaos(uint64_t seed, bool is_calm, bool short_memory)
{
    peer *clients[CLIENTS];
    ck_limits limits = limits_default;
    state = seed * 0x9e3779b97f4a7c15u + 1;
    calm = is_calm;
    aborted_count = 0;
    memset(handles, 0, sizeof(handles));
    limits.pipeline = draw(2) ? 500 : 65536;
    limits.window = draw(2) ? 8 : 65536;
    limits.body = calm || draw(2) ? 1048576 : 10;
    limits.backlog = calm ? 16777216 : 1000 + draw(200000);
    open_server(&limits);
    serve("*", "/a", on_chaos);
    serve("*", "/*", on_chaos);
    CHECK(ck_app_fixed(world.app, ck_method_id("GET", 3), "/fixed", 6, 200, "", 0, "fixed", 5) == 0);
    world.aborted = on_chaos_aborted;
    world.body = world.data = world.writable = calm ? NULL : on_chaos;
    for (int i = 0; i < CLIENTS; i++) {
        clients[i] = dial();
    }
    for (int round = 0; round < ROUNDS; round++) {
        peer *client = clients[draw(CLIENTS)];
        forget_log();
        world.fail_at = short_memory && draw(4) == 0 ? world.allocations + 1 + draw(20) : 0;
        world.fail_on = draw(2);
        world.now_ns += draw(3) * 700000;
        switch (draw(6)) {
        case 0:
        case 1:
            send_something(client);
            break;
        case 2:
            disturb(client);
            break;
        case 3:
            if (!calm && draw(8) == 0) {
                pass_granules(1 + (int) draw(4));
            }
            break;
        default:
            run_task();
            break;
        }
        if (draw(2)) {
            settle();
        }
    }
    world.fail_at = 0;
    for (int i = 0; i < CLIENTS && calm; i++) {
        clients[i]->room = UNLIMITED;
        settle();
    }
    for (int i = 0; i < HANDLES; i++) {
        (void) ck_release(handles[i]);
    }
    settle();
    for (int i = 0; i < CLIENTS && calm; i++) {
        settle();
        finish(clients[i]);
        if (!clients[i]->closed) { /* a request kept since; a step at a time all are let go */
            for (int k = 0; k < 200 && !clients[i]->closed; k++) {
                for (int n = 0; n < HANDLES; n++) {
                    (void) ck_release(handles[n]);
                }
                settle();
            }
        }
        CHECK(clients[i]->closed);
        check_whole_responses(clients[i]);
    }
    close_server();
}

int main(int count, char **arguments)
{
    memset(text, 'x', sizeof(text));
    long first = count > 1 ? atol(arguments[1]) : 1;
    long last = count > 2 ? atol(arguments[2]) : first + (count > 1 ? 0 : SEEDS - 1);
    for (long seed = first; seed <= last && checks_failed == 0; seed++) {
        for (int kind = 0; kind < 3; kind++) {
            run_chaos((uint64_t) seed * 3 + (uint64_t) kind, kind == 0, kind == 2);
            if (checks_failed) {
                fprintf(stderr, "seed %ld, kind %d\n", seed, kind);
                break;
            }
        }
    }
    return checks_done();
}
