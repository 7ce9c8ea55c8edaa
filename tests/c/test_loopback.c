/* The loopback: clients, windows, clocks, scripts, several at once, and wrong arguments. */
#include "loopback.h"

#include <errno.h>

#include "server.h"

static uint32_t lo;
static uint32_t served;
static uint32_t last_request;

static void on_lo_request(int route, uint32_t handle)
{
    last_request = handle;
    if (route == 0) {
        CHECK(ck_end(handle, "hello", 5, 0) == CK_OK);
    } else if (route == 1) {
        CHECK(ck_keep(handle) == CK_OK);
    } else {
        CHECK(ck_loopback_close(lo) == CK_STATE); /* from inside */
        CHECK(ck_end(handle, "still", 5, 0) == CK_OK);
    }
}

static void on_lo_aborted(uint32_t handle, int reason)
{
    (void) reason;
    CHECK(ck_release(handle) == CK_OK);
}

static void on_lo_body(uint32_t handle, int event)
{
    (void) handle, (void) event;
}

static void on_lo_data(uint32_t handle, void *bytes, int last)
{
    (void) handle, (void) bytes, (void) last;
}

static void on_lo_writable(uint32_t handle)
{
    (void) handle;
}

static const ck_callbacks callbacks = {.request = on_lo_request, .aborted = on_lo_aborted, .body = on_lo_body,
    .data = on_lo_data, .writable = on_lo_writable};

static uint32_t open_app(void)
{
    int error = 0;
    uint32_t app = ck_app_create(&limits_default);
    CHECK(ck_app_route(app, ck_method_id("GET", 3), "/", 1, 0, -1) == 0);
    CHECK(ck_app_route(app, ck_method_id("GET", 3), "/keep", 5, 1, -1) == 0);
    CHECK(ck_app_route(app, ck_method_id("GET", 3), "/close", 6, 2, -1) == 0);
    CHECK(ck_app_listen(app, NULL, 80, 0, &error) != 0);
    return app;
}

static void open_lo(void)
{
    int error = -1;
    reset_world(); /* for the objects that stand for Python's */
    lo = ck_loopback_open(&callbacks, &error);
    CHECK(lo != 0 && error == 0);
    CHECK(ck_loop_select(lo) == CK_OK);
    served = open_app();
}

static void close_lo(void)
{
    CHECK(ck_loopback_close(lo) == 0);
    CHECK(ck_loop_token() == 0);
    CHECK(world.objects == 0);
}

static void run_lo(void)
{
    int steps = 0;
    while (ck_loopback_work() == 1 && steps++ < 5000) {
        CHECK(ck_loop_step() >= 0);
    }
    CHECK(steps < 5000);
}

static int connect_one(void)
{
    int client = ck_loopback_connect("\177\0\0\1", 4, 4321);
    CHECK(client >= 0);
    return client;
}

static void send_text(int client, const char *text)
{
    CHECK(ck_loopback_send(client, text, (int) strlen(text)) == CK_OK);
}

/* Returns what a client got, taken out of its records. */
static const char *taken(int client, int *sends)
{
    static char text[1 << 17];
    ck_client *found = ck_loopback_current()->clients[client & 0xffff];
    size_t length = 0;
    *sends = 0;
    for (size_t at = found->out.begin; at < found->out.end; ++*sends) {
        uint32_t size;
        memcpy(&size, found->out.memory + at, sizeof(size));
        memcpy(text + length, found->out.memory + at + sizeof(size), size);
        length += size;
        at += sizeof(size) + size;
    }
    found->out.begin = found->out.end = 0;
    text[length] = '\0';
    return text;
}

static void test_an_exchange(void)
{
    int sends;
    open_lo();
    int client = connect_one();
    CHECK(ck_loopback_state(client) == 0);
    send_text(client, "GET / HTTP/1.1\r\n");
    send_text(client, "Host: a\r\n\r\n");
    CHECK(ck_loopback_unread(client) == 27);
    run_lo();
    CHECK(ck_loopback_unread(client) == 0);
    CHECK(ck_loopback_heard() == client);
    CHECK(ck_loopback_heard() == -1);
    CHECK(ck_loopback_state(client) == CK_CLIENT_ACCEPTED);
    CHECK_TEXT(taken(client, &sends), ok("hello"));
    CHECK(sends == 1);
    CHECK(ck_loopback_forget(client) == CK_STATE);
    CHECK(ck_loopback_fin(client) == CK_OK);
    CHECK(ck_loopback_send(client, "x", 1) == CK_STATE);
    run_lo();
    CHECK(ck_loopback_state(client) == (CK_CLIENT_ACCEPTED | CK_CLIENT_CLOSED));
    CHECK(ck_loopback_forget(client) == CK_OK);
    CHECK(ck_loopback_forget(client) == CK_EXPIRED);
    CHECK(ck_loopback_heard() == -1);
    int next = connect_one();
    CHECK(next != client && (next & 0xffff) == (client & 0xffff));
    close_lo();
}

static void test_takes_lists_of_bytes(void)
{
    open_lo();
    int client = connect_one();
    send_text(client, GET("/"));
    run_lo();
    object *list = ck_py_loopback_take(client);
    CHECK(list != NULL);
    object_decref(list);
    int sends;
    CHECK_TEXT(taken(client, &sends), "");
    world.objects_fail = true;
    send_text(client, GET("/"));
    run_lo();
    CHECK(ck_py_loopback_take(client) == NULL);
    world.objects_fail = false;
    CHECK(ck_py_loopback_take(12345) == NULL);
    CHECK(world.errors == 1);
    close_lo();
}

static void test_windows_and_parts(void)
{
    int sends;
    open_lo();
    int client = connect_one();
    CHECK(ck_loopback_window(client, 10) == CK_OK);
    CHECK(ck_loopback_most(client, 5, 3) == CK_OK);
    send_text(client, GET("/"));
    run_lo();
    CHECK_TEXT(taken(client, &sends), "HTTP/1.1 2");
    CHECK(sends == 4);
    CHECK(ck_loopback_window(client, -1) == CK_OK);
    run_lo();
    CHECK_TEXT(taken(client, &sends), ok("hello") + 10);
    close_lo();
}

static void test_a_reset_comes_after_what_has_arrived(void)
{
    int sends;
    open_lo();
    int client = connect_one();
    send_text(client, GET("/"));
    CHECK(ck_loopback_reset(client, ECONNRESET) == CK_OK);
    last_request = 0;
    run_lo();
    CHECK(last_request != 0);
    CHECK_TEXT(taken(client, &sends), "");
    CHECK(ck_loopback_state(client) == (CK_CLIENT_ACCEPTED | CK_CLIENT_CLOSED | CK_CLIENT_RESET));
    CHECK(ck_loopback_send(client, "lost", 4) == CK_OK);
    close_lo();
}

static void test_clocks(void)
{
    open_lo();
    int client = connect_one();
    run_lo();
    CHECK(ck_loopback_now() == 0);
    CHECK(ck_loopback_due() == INT64_C(4000000000));
    CHECK(ck_loopback_rewind() == CK_STATE);
    for (int i = 0; i < 5; i++) {
        CHECK(ck_loopback_pass(ck_loopback_due()) == CK_OK);
        CHECK(ck_loopback_work() == 1);
        run_lo();
    }
    CHECK(ck_loopback_now() == INT64_C(20000000000));
    CHECK(ck_loopback_state(client) & CK_CLIENT_CLOSED);
    CHECK(ck_loopback_forget(client) == CK_OK);
    CHECK(ck_loopback_pass(INT64_C(1500000000)) == CK_OK);
    CHECK(ck_loopback_due() == INT64_C(2500000000));
    CHECK(ck_loopback_rewind() == CK_OK);
    CHECK(ck_loopback_now() == 0);
    CHECK(ck_loopback_due() == INT64_C(4000000000));
    close_lo();
}

static void test_scripts(void)
{
    int sends;
    open_lo();
    CHECK(ck_loopback_fault(CK_CALL_SEND, -EAGAIN) == CK_OK);
    CHECK(ck_loopback_fault(CK_CALL_SEND, 0) == CK_OK);
    CHECK(ck_loopback_fault(CK_CALL_RECV, 4) == CK_OK);
    CHECK(ck_loopback_count(CK_COUNT_FAULTS) == 3);
    int client = connect_one();
    send_text(client, GET("/"));
    run_lo();
    CHECK(ck_loopback_count(CK_COUNT_FAULTS) == 0);
    CHECK_TEXT(taken(client, &sends), ok("hello"));
    for (int i = 0; i < 100; i++) {
        CHECK(ck_loopback_fault(CK_CALL_RECV, -ECONNRESET) == CK_OK);
    }
    send_text(client, GET("/"));
    run_lo();
    CHECK(ck_loopback_state(client) & CK_CLIENT_RESET); /* closed with bytes unread */
    CHECK(ck_loopback_count(CK_COUNT_FAULTS) == 99);
    CHECK(ck_loopback_clear_faults() == CK_OK);
    CHECK(ck_loopback_count(CK_COUNT_FAULTS) == 0);
    close_lo();
}

static void test_allocations(void)
{
    open_lo();
    int64_t blocks = ck_loopback_count(CK_COUNT_MEMORY);
    CHECK(blocks > 0);
    int64_t so_far = ck_loopback_count(CK_COUNT_ALLOCATIONS);
    CHECK(ck_loopback_fail_allocation(1, 0) == CK_OK);
    int client = connect_one();
    run_lo();
    CHECK(ck_loopback_count(CK_COUNT_ALLOCATIONS) > so_far);
    CHECK(ck_loopback_state(client) & CK_CLIENT_CLOSED); /* taken in and closed: there was no memory */
    CHECK(ck_loopback_count(CK_COUNT_MEMORY) == blocks);
    client = connect_one();
    run_lo();
    CHECK(ck_loopback_state(client) == CK_CLIENT_ACCEPTED);
    CHECK(ck_loopback_count(CK_COUNT_MEMORY) > blocks);
    close_lo();
}

static void test_several_at_once(void)
{
    int error, sends;
    open_lo();
    uint32_t second = ck_loopback_open(&callbacks, &error);
    CHECK(second != 0 && second != lo);
    int client = connect_one();
    send_text(client, GET("/keep"));
    run_lo();
    uint32_t held = last_request;
    CHECK(ck_loop_select(second) == CK_OK);
    CHECK(ck_loopback_work() == 0);
    CHECK(ck_loopback_send(client, "x", 1) == CK_EXPIRED);
    CHECK(ck_loopback_connect("", 0, 0) == CK_STATE); /* nothing listens here */
    CHECK(ck_alive(held) == CK_OK);                   /* a handle names its loop */
    CHECK(ck_end(held, "across", 6, 0) == CK_OK);
    CHECK(ck_release(held) == CK_OK);
    CHECK(ck_loopback_work() == 0);
    CHECK(ck_loop_select(lo) == CK_OK);
    run_lo();
    CHECK_TEXT(taken(client, &sends), ok("across"));
    CHECK(ck_loop_select(second) == CK_OK);
    CHECK(ck_loopback_close(lo) == 0);
    CHECK(ck_loop_token() == second);
    CHECK(ck_loopback_close(second) == 0);
    CHECK(ck_loop_token() == 0);
    CHECK(ck_loop_select(second) == CK_EXPIRED);
    CHECK(ck_loopback_close(second) == CK_EXPIRED);
    CHECK(world.objects == 0);
}

/* A loop of another kind beside it: the two do not know of each other. */
static void test_beside_a_loop_of_the_thread(void)
{
    open_server(NULL);
    serve("GET", "/", answer_hello);
    int error;
    uint32_t own = ck_loop_token();
    lo = ck_loopback_open(&callbacks, &error);
    CHECK(ck_loop_token() == own);
    CHECK(ck_loop_select(lo) == CK_OK);
    CHECK(ck_loop_open(&callbacks) == -EBUSY);
    CHECK(ck_loop_close() == CK_STATE);
    CHECK(ck_loop_select(own) == CK_OK);
    peer *client = dial();
    feed(client, GET("/"));
    CHECK_HEARD(client, ok("hello"));
    CHECK(ck_loopback_work() == CK_NOLOOP);
    CHECK(ck_loopback_close(own) == CK_STATE);
    CHECK(ck_loop_token() == own);
    CHECK(ck_loopback_close(lo) == 0);
    CHECK(ck_loop_token() == own);
    close_server();
}

static void test_close_from_inside(void)
{
    int sends;
    open_lo();
    int client = connect_one();
    send_text(client, GET("/close"));
    run_lo();
    CHECK_TEXT(taken(client, &sends), ok("still"));
    close_lo();
}

static void test_the_end_of_the_listener(void)
{
    open_lo();
    int waiting = connect_one();
    CHECK(ck_app_destroy(served) == CK_OK);
    CHECK(ck_loopback_state(waiting) == (CK_CLIENT_CLOSED | CK_CLIENT_RESET));
    CHECK(ck_loopback_connect("", 0, 0) == CK_STATE);
    close_lo();
}

static void test_many_clients(void)
{
    enum { COUNT = 3000 };
    static int clients[COUNT];
    int sends;
    open_lo();
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < COUNT; i++) {
            clients[i] = connect_one();
            send_text(clients[i], GET("/"));
        }
        run_lo();
        for (int i = 0; i < COUNT; i++) {
            CHECK(ck_loopback_heard() >= 0);
            CHECK_TEXT(taken(clients[i], &sends), ok("hello"));
            CHECK(ck_loopback_reset(clients[i], ECONNRESET) == CK_OK);
        }
        run_lo();
        for (int i = COUNT - 1; i >= 0; i--) {
            CHECK(ck_loopback_forget(clients[i]) == CK_OK);
        }
        CHECK(ck_loopback_heard() == -1);
    }
    close_lo();
}

static void test_wrong_arguments(void)
{
    open_lo();
    int client = connect_one();
    static const int strangers[] = {-1, INT32_MIN, INT32_MAX, 1, 1 << 16, 65535};
    for (size_t i = 0; i < sizeof(strangers) / sizeof(*strangers); i++) {
        int stranger = strangers[i];
        CHECK(ck_loopback_send(stranger, "x", 1) == CK_EXPIRED);
        CHECK(ck_loopback_fin(stranger) == CK_EXPIRED);
        CHECK(ck_loopback_reset(stranger, 1) == CK_EXPIRED);
        CHECK(ck_loopback_window(stranger, 1) == CK_EXPIRED);
        CHECK(ck_loopback_most(stranger, 1, 1) == CK_EXPIRED);
        CHECK(ck_loopback_state(stranger) == CK_EXPIRED);
        CHECK(ck_loopback_unread(stranger) == CK_EXPIRED);
        CHECK(ck_loopback_forget(stranger) == CK_EXPIRED);
    }
    CHECK(ck_loopback_send(client, "x", -1) == CK_VALUE);
    CHECK(ck_loopback_send(client, NULL, 1) == CK_VALUE);
    CHECK(ck_loopback_send(client, NULL, 0) == CK_OK);
    CHECK(ck_loopback_reset(client, 0) == CK_VALUE);
    CHECK(ck_loopback_window(client, -2) == CK_VALUE);
    CHECK(ck_loopback_most(client, -1, 0) == CK_VALUE);
    CHECK(ck_loopback_connect("abc", 3, 1) == CK_VALUE);
    CHECK(ck_loopback_connect("", 0, 65536) == CK_VALUE);
    CHECK(ck_loopback_pass(-1) == CK_VALUE);
    CHECK(ck_loopback_pass(INT64_MAX) == CK_VALUE);
    CHECK(ck_loopback_fault(-1, 0) == CK_VALUE);
    CHECK(ck_loopback_fault(CK_CALLS, 0) == CK_VALUE);
    CHECK(ck_loopback_fault(CK_CALL_SEND, INT32_MIN) == CK_VALUE);
    CHECK(ck_loopback_fail_allocation(-1, 0) == CK_VALUE);
    CHECK(ck_loopback_fail_allocation(INT64_MAX, 0) == CK_VALUE);
    CHECK(ck_loopback_count(-1) == CK_VALUE);
    CHECK(ck_loop_select(0x7fffffff) == CK_EXPIRED);
    close_lo();
}

static void test_nothing_selected(void)
{
    reset_world();
    CHECK(ck_loop_token() == 0);
    CHECK(ck_loopback_work() == CK_NOLOOP);
    CHECK(ck_loopback_connect("", 0, 0) == CK_NOLOOP);
    CHECK(ck_loopback_send(0, "x", 1) == CK_NOLOOP);
    CHECK(ck_loopback_state(0) == CK_NOLOOP);
    CHECK(ck_loopback_heard() == -1);
    CHECK(ck_loopback_now() == CK_NOLOOP);
    CHECK(ck_loopback_due() == -1);
    CHECK(ck_loopback_pass(1) == CK_NOLOOP);
    CHECK(ck_loopback_rewind() == CK_NOLOOP);
    CHECK(ck_loopback_fault(0, 0) == CK_NOLOOP);
    CHECK(ck_loopback_fail_allocation(1, 0) == CK_NOLOOP);
    CHECK(ck_loopback_clear_faults() == CK_NOLOOP);
    CHECK(ck_loopback_count(0) == CK_NOLOOP);
    CHECK(ck_py_loopback_take(0) == NULL);
    CHECK(ck_loop_select(0) == CK_OK);
}

int main(void)
{
    test_an_exchange();
    test_takes_lists_of_bytes();
    test_windows_and_parts();
    test_a_reset_comes_after_what_has_arrived();
    test_clocks();
    test_scripts();
    test_allocations();
    test_several_at_once();
    test_beside_a_loop_of_the_thread();
    test_close_from_inside();
    test_the_end_of_the_listener();
    test_many_clients();
    test_wrong_arguments();
    test_nothing_selected();
    return checks_done();
}
