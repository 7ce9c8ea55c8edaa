/* Handles: stale, foreign and wrong ones, growth, reuse, and memory that fails. */
#include "handle.h"

#include <pthread.h>

#include "cork.h"
#include "server.h"

enum { MANY = 5000 };

static ck_handles table;

static void open_table(uint32_t loop_id)
{
    reset_world();
    CHECK(ck_handles_init(&table, &world.sys, loop_id) == 0);
}

static void close_table(void)
{
    ck_handles_free(&table);
    CHECK(world.memory == 0);
}

static void test_one_handle(void)
{
    int subject;
    open_table(3);
    uint32_t handle = ck_handle_new(&table, CK_KIND_APP, &subject);
    CHECK(handle != 0);
    CHECK(handle >> CK_HANDLE_BITS == 3);
    CHECK(ck_handle_get(&table, handle, CK_KIND_APP) == &subject);
    CHECK(ck_handle_get(&table, handle, CK_KIND_LISTENER) == NULL);
    CHECK(ck_handle_get(&table, handle, CK_KIND_NONE) == NULL);
    CHECK(ck_handle_get(&table, handle ^ 1u << CK_HANDLE_BITS, CK_KIND_APP) == NULL);
    CHECK(table.live == 1);
    ck_handle_drop(&table, handle);
    CHECK(ck_handle_get(&table, handle, CK_KIND_APP) == NULL);
    ck_handle_drop(&table, handle);
    ck_handle_drop(&table, 0);
    CHECK(table.live == 0);
    close_table();
}

static void test_zero_is_no_handle(void)
{
    open_table(1);
    CHECK(ck_handle_get(&table, 0, CK_KIND_NONE) == NULL);
    CHECK(ck_handle_get(&table, 0, CK_KIND_APP) == NULL);
    close_table();
}

/* Many at once, each with its own object; every second one goes, and more come. */
static void test_growth(void)
{
    static int subjects[2 * MANY];
    static uint32_t handles[2 * MANY];
    open_table(1);
    for (int i = 0; i < MANY; i++) {
        handles[i] = ck_handle_new(&table, CK_KIND_EXCHANGE, &subjects[i]);
    }
    for (int i = 0; i < MANY; i += 2) {
        ck_handle_drop(&table, handles[i]);
    }
    for (int i = MANY; i < 2 * MANY; i++) {
        handles[i] = ck_handle_new(&table, CK_KIND_EXCHANGE, &subjects[i]);
    }
    int wrong = 0;
    for (int i = 0; i < 2 * MANY; i++) {
        void *expected = i < MANY && i % 2 == 0 ? NULL : &subjects[i];
        wrong += ck_handle_get(&table, handles[i], CK_KIND_EXCHANGE) != expected;
    }
    CHECK(wrong == 0);
    CHECK(table.live == MANY + MANY / 2);
    close_table();
}

/* Without memory to grow the table is used up to its last slot but one, and
 * refuses then. */
static void test_growth_without_memory(void)
{
    int subject;
    open_table(1);
    world.fail_at = world.allocations + 1;
    world.fail_on = true;
    uint32_t first = ck_handle_new(&table, CK_KIND_EXCHANGE, &subject);
    unsigned made = 1;
    while (ck_handle_new(&table, CK_KIND_EXCHANGE, &subject)) {
        made++;
    }
    CHECK(made == table.mask);
    CHECK(table.live == made);
    ck_handle_drop(&table, first);
    CHECK(ck_handle_new(&table, CK_KIND_EXCHANGE, &subject) != 0);
    CHECK(ck_handle_get(&table, first, CK_KIND_EXCHANGE) == NULL);
    world.fail_at = 0;
    CHECK(ck_handle_new(&table, CK_KIND_EXCHANGE, &subject) != 0);
    CHECK(table.mask > 1024);
    close_table();
}

/* One object at a time: a handle comes back after 2^27 counts, not before, and
 * no handle is ever 0 or of another loop. */
static void test_reuse(void)
{
    int subject;
    open_table(31);
    uint32_t first = ck_handle_new(&table, CK_KIND_EXCHANGE, &subject);
    uint32_t long_lived = ck_handle_new(&table, CK_KIND_EXCHANGE, &table);
    ck_handle_drop(&table, first);
    table.next = (1u << CK_HANDLE_BITS) - 3; /* as after that many allocations */
    unsigned wrong = 0;
    uint32_t again = 0;
    for (int i = 0; i < 8 && again != first; i++) {
        again = ck_handle_new(&table, CK_KIND_EXCHANGE, &subject);
        wrong += (again & ((1u << CK_HANDLE_BITS) - 1)) == 0 || again >> CK_HANDLE_BITS != 31 || again == long_lived;
        ck_handle_drop(&table, again);
    }
    CHECK(wrong == 0);
    CHECK(again == first);
    CHECK(ck_handle_get(&table, long_lived, CK_KIND_EXCHANGE) == &table);
    close_table();
}

static void test_stale_ones_poked_at_random(void)
{
    int subject;
    uint32_t state = 12345;
    unsigned found = 0;
    open_table(1);
    for (int i = 0; i < 100000; i++) {
        uint32_t handle = ck_handle_new(&table, CK_KIND_EXCHANGE, &subject);
        ck_handle_drop(&table, handle);
        state = state * 1664525u + 1013904223u;
        uint32_t guess = i % 2 ? handle - state % 4096 : state;
        found += ck_handle_get(&table, guess, CK_KIND_EXCHANGE) != NULL;
        ck_handle_drop(&table, guess);
    }
    CHECK(found == 0);
    CHECK(table.live == 0);
    close_table();
}

/* ---- Through the interface ---- */

/* Every entry that takes an exchange, with a handle that is none. */
static void check_all_refuse(uint32_t handle, int expected)
{
    const char *value;
    int64_t long_expected = expected;
    int (*const plain_entries[])(uint32_t) = {ck_keep, ck_release, ck_alive, ck_get_yield, ck_parameter_count,
        ck_http_minor, ck_remote_port, ck_write_continue, ck_want_writable, ck_has_started, ck_buffered_amount,
        ck_sends, ck_fail, ck_close, ck_cork, ck_uncork, ck_flush};
    for (size_t i = 0; i < sizeof(plain_entries) / sizeof(plain_entries[0]); i++) {
        CHECK(plain_entries[i](handle) == expected);
    }
    CHECK(ck_set_yield(handle, 1) == expected);
    CHECK(ck_header_value(handle, "host", 4, &value) == expected);
    CHECK(ck_path_value(handle, &value) == expected);
    CHECK(ck_body_ask(handle, CK_BODY_COLLECT) == expected);
    CHECK(ck_body_limit(handle, 1) == expected);
    CHECK(ck_pause(handle, 1) == expected);
    CHECK(ck_status(handle, 200) == expected);
    CHECK(ck_status_line(handle, "200 OK", 6) == expected);
    CHECK(ck_header(handle, "a", 1, "b", 1) == expected);
    CHECK(ck_write(handle, "a", 1) == expected);
    CHECK(ck_end(handle, "a", 1, 0) == expected);
    CHECK(ck_write_large(handle, "a", 1) == expected);
    CHECK(ck_end_large(handle, "a", 1, 0) == expected);
    CHECK(ck_send(handle, 200, "a/b", 3, "a", 1, 0) == expected);
    CHECK(ck_end_without_body(handle, -1, 0) == expected);
    CHECK(ck_try_end(handle, "a", 1, 1, 0) == expected);
    CHECK(ck_write_offset(handle) == long_expected);
    CHECK(ck_set_write_offset(handle, 1) == expected);
    CHECK(!ck_py_method(handle) && !ck_py_target(handle) && !ck_py_path(handle) && !ck_py_query(handle));
    CHECK(!ck_py_host(handle) && !ck_py_header(handle, "a", 1) && !ck_py_headers(handle) && !ck_py_trailers(handle));
    CHECK(!ck_py_parameter(handle, 0) && !ck_py_remote_address(handle) && !ck_py_body_take(handle));
}

static uint32_t listener_of_test;

static void test_entries_refuse(void)
{
    int error;
    ck_stats found;
    open_server(NULL);
    serve("GET", "/", answer_hello);
    listener_of_test = ck_app_listen(world.app, "127.0.0.1", 81, 0, &error);
    peer *client = dial();
    feed(client, GET("/"));
    CHECK(world.last != 0);
    check_all_refuse(world.last, CK_EXPIRED);
    check_all_refuse(0, CK_EXPIRED);
    check_all_refuse(world.app, CK_EXPIRED);
    check_all_refuse(listener_of_test, CK_EXPIRED);
    check_all_refuse(0xffffffff, CK_EXPIRED);
    CHECK(ck_app_stats(listener_of_test, &found) == CK_EXPIRED);
    CHECK(ck_listener_close(world.app) == CK_EXPIRED);
    CHECK(ck_listener_port(world.app) == CK_EXPIRED);
    CHECK(ck_app_destroy(world.last) == CK_EXPIRED);
    CHECK(ck_app_drain(0) == CK_EXPIRED);
    CHECK(ck_app_abort(0) == CK_EXPIRED);
    CHECK(ck_app_route(0, 0, "/", 1, 0, -1) == CK_EXPIRED);
    CHECK(ck_app_fixed(0, 0, "/", 1, 200, "", 0, "", 0) == CK_EXPIRED);
    CHECK(ck_app_listen(world.last, NULL, 0, 0, &error) == 0 && error == EINVAL);
    CHECK_HEARD(client, ok("hello"));
    close_server();
}

static void *on_other_thread(void *nothing)
{
    check_all_refuse(world.last, CK_THREAD);
    CHECK(ck_app_drain(world.app) == CK_THREAD);
    CHECK(ck_loop_step() == CK_NOLOOP);
    CHECK(ck_loop_sweep() == CK_NOLOOP);
    CHECK(ck_loop_close() == CK_NOLOOP);
    CHECK(ck_loop_fd() == CK_NOLOOP);
    CHECK(ck_corked() == 0);
    CHECK(ck_app_create(&limits_default) == 0);
    CHECK(ck_loop_token() == 0 && ck_loop_handles() == 0);
    return nothing;
}

static void test_another_thread(void)
{
    pthread_t thread;
    open_server(NULL);
    serve("GET", "/", just_keep);
    peer *client = dial();
    feed(client, GET("/"));
    CHECK(pthread_create(&thread, NULL, on_other_thread, NULL) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(end_text(world.last, "here") == CK_OK);
    settle();
    CHECK_HEARD(client, ok("here"));
    close_server();
}

static void test_handles_are_counted(void)
{
    open_server(NULL);
    serve("GET", "/", just_keep);
    CHECK(ck_loop_handles() == 2); /* app and listener */
    peer *client = dial();
    feed(client, GET("/"));
    uint32_t kept = world.last;
    CHECK(ck_loop_handles() == 3);
    CHECK(end_text(kept, "") == CK_OK);
    settle();
    CHECK(ck_loop_handles() == 3);
    CHECK(ck_alive(kept) == CK_FINISHED);
    CHECK(ck_release(kept) == CK_OK);
    CHECK(ck_release(kept) == CK_EXPIRED);
    CHECK(ck_loop_handles() == 2);
    close_server();
}

int main(void)
{
    test_one_handle();
    test_zero_is_no_handle();
    test_growth();
    test_growth_without_memory();
    test_reuse();
    test_stale_ones_poked_at_random();
    test_entries_refuse();
    test_another_thread();
    test_handles_are_counted();
    return checks_done();
}
