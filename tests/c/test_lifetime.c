/* What is over stays over: memory of a request after its callback, exchanges that
 * are used again, and every entry given handles of long ago. */
#include "http.h"

#include "server.h"

#ifndef CK_POISON
#error "these tests need a core that overwrites what is over: -DCK_POISON"
#endif

/* ---- RQ-09: what is over is overwritten ---- */

static const char *path_seen;
static int path_length;

static void remember_path(uint32_t handle)
{
    path_length = ck_path_value(handle, &path_seen);
    CHECK(path_length == 6 && memcmp(path_seen, "/first", 6) == 0);
    CHECK(end_text(handle, "x") == CK_OK);
}

static bool is_poison(const void *memory, size_t length)
{
    const unsigned char *at = memory;
    for (size_t i = 0; i < length; i++) {
        if (at[i] != 0xdd) {
            return false;
        }
    }
    return true;
}

static void test_rq09_a_head_after_its_callback(void)
{
    open_server(NULL);
    serve("GET", "/first", remember_path);
    peer *client = dial();
    feed(client, GET("/first"));
    CHECK_HEARD(client, ok("x"));
    CHECK(is_poison(path_seen, (size_t) path_length));
    close_server();
}

static void test_rq09_an_exchange_and_a_cork_that_are_over(void)
{
    open_server(NULL);
    serve("GET", "/*", answer_path);
    peer *client = dial();
    feed(client, GET("/a"));
    const ck_loop *loop = ck_loop_current();
    CHECK(loop->spare_count == 1 && loop->corks.pooled == 1);
    const ck_exchange *exchange = loop->spare_exchanges;
    CHECK(is_poison(&exchange->head, sizeof(exchange->head)) && is_poison(&exchange->handle, sizeof(exchange->handle)));
    CHECK(is_poison(loop->corks.pool->data, CK_CORK_CAPACITY));
    feed(client, GET("/b") GET("/c")); /* and both serve again */
    CHECK_HEARD(client, joined(3, ok("/a"), ok("/b"), ok("/c")));
    close_server();
}

static uint32_t kept;

static void keep_it(uint32_t handle)
{
    just_keep(handle);
    kept = handle;
}

/* What was kept is a copy, and says the same after anything that comes. */
static void test_rq01_a_kept_head(void)
{
    open_server(NULL);
    serve("GET", "/kept", keep_it);
    serve("GET", "/*", answer_path);
    peer *client = dial(), *other = dial();
    feed(client, "GET /kept?a=b HTTP/1.1\r\nHost: a\r\nX-Mine: first\r\n\r\n" GET("/later"));
    for (int i = 0; i < 100; i++) {
        feed(other, "GET /other HTTP/1.1\r\nHost: b\r\nX-Mine: other\r\n\r\n");
    }
    object *value = ck_py_header(kept, "x-mine", 6);
    CHECK(value && value->length == 5 && memcmp(value->data, "first", 5) == 0);
    object_decref(value);
    object *query = ck_py_query(kept);
    CHECK(query && query->length == 3 && memcmp(query->data, "a=b", 3) == 0);
    object_decref(query);
    CHECK(end_text(kept, "done") == CK_OK && ck_release(kept) == CK_OK);
    settle();
    CHECK_HEARD(client, joined(2, ok("done"), ok("/later")));
    close_server();
}

/* ---- RQ-06: slots that are used again and again ---- */

enum { STALE = 4096, ROUNDS = 100000 };

static uint32_t stale[STALE];
static unsigned ended;

static void note_and_answer(uint32_t handle)
{
    stale[ended++ % STALE] = handle;
    CHECK(end_text(handle, "x") == CK_OK);
}

static uint64_t state = 1;

static unsigned draw(unsigned below)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (unsigned) (state >> 33) % below;
}

/* Uses every entry there is for an exchange that is over. */
static void poke(uint32_t handle)
{
    const char *value;
    long errors = world.errors;
    CHECK(ck_keep(handle) == CK_EXPIRED && ck_release(handle) == CK_EXPIRED && ck_alive(handle) == CK_EXPIRED);
    CHECK(ck_set_yield(handle, 1) == CK_EXPIRED && ck_get_yield(handle) == CK_EXPIRED);
    CHECK(!ck_py_method(handle) && !ck_py_target(handle) && !ck_py_path(handle) && !ck_py_query(handle));
    CHECK(!ck_py_header(handle, "host", 4) && !ck_py_headers(handle) && !ck_py_parameter(handle, 0));
    CHECK(!ck_py_remote_address(handle) && !ck_py_body_take(handle) && world.errors == errors + 9);
    CHECK(ck_path_value(handle, &value) == CK_EXPIRED && ck_header_value(handle, "host", 4, &value) == CK_EXPIRED);
    CHECK(ck_body_ask(handle, CK_BODY_COLLECT) == CK_EXPIRED && ck_pause(handle, 1) == CK_EXPIRED);
    CHECK(ck_status(handle, 200) == CK_EXPIRED && field(handle, "A", "b") == CK_EXPIRED);
    CHECK(write_text(handle, "x") == CK_EXPIRED && end_text(handle, "x") == CK_EXPIRED);
    CHECK(ck_send(handle, 200, "a/b", 3, "x", 1, 0) == CK_EXPIRED && ck_end_without_body(handle, -1, 0) == CK_EXPIRED);
    CHECK(ck_want_writable(handle) == CK_EXPIRED && ck_fail(handle) == CK_EXPIRED && ck_close(handle) == CK_EXPIRED);
    CHECK(ck_cork(handle) == CK_EXPIRED && ck_uncork(handle) == CK_EXPIRED && ck_flush(handle) == CK_EXPIRED);
}

static void test_rq06_stale_handles_poked_at_random(void)
{
    char pipeline[16 * sizeof(GET("/x"))] = "";
    for (int i = 0; i < 16; i++) {
        strcat(pipeline, GET("/x"));
    }
    open_server(NULL);
    serve("GET", "/x", note_and_answer);
    serve("GET", "/kept", keep_it);
    peer *witness = dial(), *client = dial();
    feed(witness, GET("/kept"));
    while (ended < ROUNDS) {
        unsigned before = ended;
        feed(client, pipeline);
        CHECK(ended == before + 16);
        forget(client);
        free(client->in);
        client->in = NULL;
        client->in_length = client->in_taken = 0;
        poke(stale[draw(ended < STALE ? ended : STALE)]);
        poke(draw(UINT32_MAX) & ~(1u << 31)); /* none that was ever given, or one of another loop */
    }
    CHECK(ck_loop_handles() == 3 && ck_alive(kept) == CK_OK);
    CHECK(end_text(kept, "unharmed") == CK_OK && ck_release(kept) == CK_OK);
    settle();
    CHECK_HEARD(witness, ok("unharmed"));
    close_server();
}

int main(void)
{
    test_rq01_a_kept_head();
    test_rq06_stale_handles_poked_at_random();
    test_rq09_a_head_after_its_callback();
    test_rq09_an_exchange_and_a_cork_that_are_over();
    return checks_done();
}
