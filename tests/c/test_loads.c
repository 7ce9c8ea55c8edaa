/* Loads, counted in bytes that the core holds: idle connections, slow readers,
 * slow senders, a handler that hogs the loop, bursts. */
#include "faulty.h"

enum { MANY = 300, PART = 65536 };

/* ---- Bytes held ---- */

static size_t bytes_held, most_held;

/* Each block is preceded by its size. */
enum { SIZE_ROOM = 16 };

static void hold(size_t more, size_t less)
{
    bytes_held += more;
    bytes_held -= less;
    most_held = bytes_held > most_held ? bytes_held : most_held;
}

static void *counted_resize(struct us_sys_t *sys, void *memory, size_t size)
{
    size_t *before = memory ? (size_t *) ((char *) memory - SIZE_ROOM) : NULL;
    size_t was = before ? *before : 0;
    size_t *block = s_resize(sys, before, SIZE_ROOM + size);
    if (!block) {
        return NULL;
    }
    *block = size;
    hold(size, was);
    return (char *) block + SIZE_ROOM;
}

static void *counted_alloc(struct us_sys_t *sys, size_t size)
{
    return counted_resize(sys, NULL, size);
}

static void counted_release(struct us_sys_t *sys, void *memory)
{
    if (memory) {
        size_t *block = (size_t *) ((char *) memory - SIZE_ROOM);
        hold(0, *block);
        s_release(sys, block);
    }
}

static void open_counted(const ck_limits *limits)
{
    reset_faulty_world();
    bytes_held = most_held = 0;
    world.sys.alloc = counted_alloc;
    world.sys.resize = counted_resize;
    world.sys.release = counted_release;
    CHECK(try_open_server(limits));
    serve("GET", "/*", answer_path);
}

static void close_counted(void)
{
    close_server();
    CHECK(bytes_held == 0);
}

/* ---- Idle connections (LD-01) ---- */

static void test_ld01_idle_connections(void)
{
    open_counted(NULL);
    peer *clients[MANY];
    say(call_in(), GET("/first")); /* what the loop itself takes at the first request */
    size_t before = bytes_held;
    for (int i = 0; i < MANY; i++) {
        clients[i] = call_in();
    }
    size_t idle = (bytes_held - before) / MANY;
    for (int i = 0; i < MANY; i++) {
        say(clients[i], GET("/x"));
        CHECK_HEARD(clients[i], ok("/x"));
    }
    size_t kept_alive = (bytes_held - before) / MANY;
    printf("an idle connection takes %zu bytes, one that has been served %zu\n", idle, kept_alive);
    CHECK(idle <= 512);
    CHECK(kept_alive <= 512);
    CHECK(stats().open == MANY + 1 && ck_loop_handles() == 2); /* the app and its listener: no exchange */
    close_counted();
}

/* ---- Slow readers (LD-04) ---- */

static char part[PART];
static uint32_t readers[MANY];
static int parts_left[MANY];
static int reader_count;

static int number_of(uint32_t handle)
{
    int i = 0;
    while (readers[i] != handle && i < MANY - 1) {
        i++;
    }
    return i;
}

/* As `await res.drain()` does: writes until bytes have to wait, and then waits. */
static void write_parts(uint32_t handle)
{
    int reader = number_of(handle);
    int waits = 0;
    while (parts_left[reader] > 1 && !waits) {
        parts_left[reader]--;
        waits = ck_write(handle, part, PART);
        CHECK(waits >= 0 && ck_buffered_amount(handle) <= PART + 1024);
    }
    if (waits) {
        CHECK(ck_want_writable(handle) == CK_OK);
        return;
    }
    parts_left[reader] = 0;
    CHECK(ck_end(handle, part, PART, 0) == CK_OK && ck_release(handle) == CK_OK);
}

static void begin_streaming(uint32_t handle)
{
    just_keep(handle);
    readers[reader_count] = handle;
    parts_left[reader_count++] = 160; /* 10 MiB */
    write_parts(handle);
}

static void let_go(uint32_t handle)
{
    CHECK(ck_release(handle) == CK_OK);
}

static void test_ld04_slow_readers(void)
{
    enum { READERS = 40 };
    open_counted(NULL);
    peer *clients[READERS];
    reader_count = 0;
    serve("GET", "/stream", begin_streaming);
    world.writable = write_parts;
    world.aborted = let_go;
    say(call_in(), GET("/first"));
    size_t before = bytes_held;
    for (int i = 0; i < READERS; i++) {
        clients[i] = call_in();
        clients[i]->room = 1000;
        say(clients[i], GET("/stream"));
    }
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < READERS; i++) {
            clients[i]->room = 30000;
        }
        go();
    }
    printf("a slow reader of 10 MiB takes at most %zu bytes\n", (most_held - before) / READERS);
    CHECK((most_held - before) / READERS <= 2 * PART);
    clients[0]->room = UNLIMITED; /* one reads on, and has it all */
    go();
    CHECK(parts_left[0] == 0 && clients[0]->out_length > 160 * PART);
    CHECK(parts_left[1] > 100);
    for (int i = 1; i < READERS; i++) {
        clients[i]->receive_error = clients[i]->send_error = ECONNRESET;
    }
    go();
    CHECK(stats().aborted == READERS - 1 && ck_loop_handles() == 2);
    CHECK(bytes_held - before < 2 * 1024 * 1024); /* the pool of cork buffers */
    close_counted();
}

/* ---- Slow senders (LD-07) ---- */

static void test_ld07_slowloris(void)
{
    enum { ATTACKERS = 200, SECONDS = 12 };
    ck_limits limits = limits_default;
    limits.head_seconds = 8;
    open_counted(&limits);
    peer *attackers[ATTACKERS];
    peer *honest = call_in();
    for (int i = 0; i < ATTACKERS; i++) {
        attackers[i] = call_in();
    }
    size_t before = bytes_held;
    static const char head[] = "GET / HTTP/1.1\r\nX: abcdefghijklmnopqrstuvwxyz";
    int served = 0;
    for (int second = 0; second < SECONDS; second++) {
        for (int i = 0; i < ATTACKERS; i++) {
            arrive(attackers[i], head + second, 1);
        }
        go();
        forget(honest);
        arrive(honest, GET("/x"), strlen(GET("/x")));
        long waits = fault.waits;
        go();
        served += strcmp(heard(honest), ok("/x")) == 0;
        CHECK(fault.waits - waits <= 1); /* nobody stands in its way */
        CHECK(bytes_held - before < ATTACKERS * 2048);
        pass_ms(1000);
    }
    CHECK(served == SECONDS);
    int gone = 0;
    for (int i = 0; i < ATTACKERS; i++) {
        gone += attackers[i]->shut && strstr(heard(attackers[i]), " 408 ") != NULL;
    }
    CHECK(gone == ATTACKERS && stats().timeouts == ATTACKERS);
    pass_ms(16000);
    CHECK(stats().open == 0);
    close_counted();
}

/* ---- A handler that hogs the loop (LD-08) ---- */

static void hog(uint32_t handle)
{
    world.now_ns += INT64_C(60000000000); /* a minute in which no other event is seen */
    answer_path(handle);
}

static void test_ld08_nobody_is_late_for_what_a_handler_took(void)
{
    open_counted(NULL);
    serve("GET", "/hog", hog);
    peer *hogs = call_in(), *waiting = call_in(), *half = call_in(), *idle = call_in();
    say(half, "GET /half HT");
    pass_ms(7000); /* most of its time is over when the loop is hogged */
    arrive(hogs, GET("/hog"), strlen(GET("/hog")));
    CHECK(ck_loop_step() > 0);
    arrive(waiting, GET("/waiting"), strlen(GET("/waiting")));
    arrive(half, "TP/1.1\r\nHost: a\r\n\r\n", 19);
    pass_ms(0); /* fifteen sweeps are due by now, in one event */
    go();
    CHECK_HEARD(hogs, ok("/hog"));
    CHECK_HEARD(waiting, ok("/waiting"));
    CHECK_HEARD(half, ok("/half"));
    CHECK(!idle->closed && stats().timeouts == 0);
    close_counted();
}

/* ---- Bursts (LD-10) ---- */

static void burst(void)
{
    peer *clients[MANY];
    for (int i = 0; i < MANY; i++) {
        clients[i] = call_in();
        clients[i]->room = 10;
    }
    for (int i = 0; i < MANY; i++) {
        arrive(clients[i], GET("/a") GET("/b") GET("/c") "GET /unf", strlen(GET("/a") GET("/b") GET("/c")) + 8);
    }
    go();
    for (int i = 0; i < MANY; i++) {
        clients[i]->room = UNLIMITED;
    }
    go();
    for (int i = 0; i < MANY; i++) {
        clients[i]->fin = true;
    }
    go();
    for (int i = 0; i < MANY; i++) {
        CHECK(clients[i]->closed);
        CHECK_HEARD(clients[i], joined(3, ok("/a"), ok("/b"), ok("/c")));
    }
    free_peers();
}

static void test_ld10_bursts(void)
{
    open_counted(NULL);
    size_t base = bytes_held;
    burst();
    size_t after = bytes_held;
    printf("after a burst of %d connections %zu bytes stay, of %zu\n", MANY, after - base, most_held);
    CHECK(after - base < 64 * 16384 + 256 * 4096); /* the pools, which do not grow */
    for (int i = 0; i < 20; i++) {
        burst();
        CHECK(bytes_held == after);
    }
    close_counted();
}

int main(void)
{
    memset(part, 'p', sizeof(part));
    test_ld01_idle_connections();
    test_ld04_slow_readers();
    test_ld07_slowloris();
    test_ld08_nobody_is_late_for_what_a_handler_took();
    test_ld10_bursts();
    return checks_done();
}
