/* Faults by name: what the sweep cannot see, since it is about time, order and
 * how often. FT-01 to FT-06 and FT-08 to FT-10; FT-07 is in test_fault_sweep.c. */
#include "faulty.h"

static uint32_t kept[8];
static int kept_count;

static void keep_in_order(uint32_t handle)
{
    if (CHECK(kept_count < 8) && ck_keep(handle) == CK_OK) {
        kept[kept_count++] = handle;
    }
}

static char large[200000];

static void answer_large(uint32_t handle)
{
    (void) ck_end(handle, large, sizeof(large), 0);
}

static void let_go(uint32_t handle)
{
    CHECK(ck_release(handle) == CK_OK);
}

static void open_faults(void)
{
    kept_count = 0;
    open_faulty_server(NULL);
    serve("GET", "/later", keep_in_order);
    serve("GET", "/large", answer_large);
    serve("GET", "/*", answer_path);
    world.aborted = let_go;
}

static void expect_alive(void)
{
    peer *client = call_in();
    say(client, GET("/alive"));
    CHECK_HEARD(client, ok("/alive"));
    client->fin = true;
    go();
    CHECK(client->closed);
}

static long waits_since;

static void count_waits(void)
{
    waits_since = fault.waits;
}

static long waits(void)
{
    return fault.waits - waits_since;
}

/* ---- Accepting ---- */

static void test_ft01_without_descriptors_the_listener_pauses(void)
{
    const int errors[] = {EMFILE, ENFILE};
    for (int i = 0; i < 2; i++) {
        open_faults();
        peer *first = knock();
        break_next(SITE_ACCEPT, errors[i], true);
        count_waits();
        go();
        CHECK(!fault.stalled && waits() == 1);
        pass_ms(30000); /* a delay of 100 ms that doubles to a second, and the sweeps */
        CHECK(!fault.stalled);
        CHECK(waits() > 25 && waits() < 100);
        CHECK(first->fd == 0); /* the spare was given up for it, and even that failed */
        mend();
        pass_ms(1000);
        CHECK(first->fd != 0);
        say(first, GET("/x"));
        CHECK_HEARD(first, ok("/x"));
        expect_alive();
        close_server();
    }
}

/* One client is turned away with the spare descriptor, which is quicker than silence. */
static void test_ft01_one_client_is_turned_away(void)
{
    open_faults();
    peer *first = knock(), *second = knock();
    break_next(SITE_ACCEPT, EMFILE, false);
    go();
    CHECK(first->closed && first->out_length == 0 && !second->fd);
    pass_ms(100);
    CHECK(second->fd && !second->closed);
    expect_alive();
    close_server();
}

static void test_ft02_other_errors_of_accept(void)
{
    const int skipped[] = {EINTR, ECONNABORTED, EPROTO, EPERM};
    const int paused[] = {ENOBUFS, ENOMEM};
    for (int i = 0; i < 4; i++) {
        open_faults();
        (void) knock();
        break_next(SITE_ACCEPT, skipped[i], false);
        count_waits();
        go();
        CHECK(waits() == 1 && world.peers[0]->fd != 0); /* the same event goes on to the next */
        close_server();
    }
    for (int i = 0; i < 2; i++) {
        open_faults();
        peer *client = knock();
        break_next(SITE_ACCEPT, paused[i], false);
        go();
        CHECK(!fault.stalled && !client->fd && !client->closed); /* it stays in the queue */
        pass_ms(100);
        CHECK(client->fd != 0);
        close_server();
    }
}

/* ---- Sending ---- */

/* The kernel never takes a byte: nobody is polled for writing again and again. */
static void test_ft03_a_full_kernel(void)
{
    open_faults();
    peer *slow = call_in(), *other = call_in();
    slow->room = 0;
    say(slow, GET("/large"));
    count_waits();
    say(other, GET("/x"));
    CHECK_HEARD(other, ok("/x"));
    CHECK(waits() == 1);
    for (int i = 0; i < 1000; i++) { /* byte by byte */
        slow->room = 1;
        go();
    }
    CHECK(slow->out_length == 1000);
    slow->room = UNLIMITED;
    go();
    CHECK(slow->out_length > sizeof(large) && memcmp(slow->out + slow->out_length - sizeof(large), large, sizeof(large)) == 0);
    close_server();
}

static void test_ft03_writes_of_one_byte(void)
{
    open_faults();
    peer *slow = call_in();
    slow->most = 1;
    say(slow, GET("/a") GET("/b") GET("/c"));
    CHECK_HEARD(slow, joined(3, ok("/a"), ok("/b"), ok("/c")));
    close_server();
}

/* The kernel says that it would take bytes, and then has no memory for them. */
static void test_ft04_no_memory_to_send_does_not_spin(void)
{
    const int errors[] = {ENOBUFS, ENOMEM};
    for (int i = 0; i < 2; i++) {
        open_faults();
        peer *client = call_in();
        break_next(SITE_SEND, errors[i], true);
        count_waits();
        say(client, GET("/x"));
        CHECK(!fault.stalled && !client->closed && client->out_length == 0);
        pass_ms(1000);
        CHECK(!fault.stalled && waits() < 25); /* ten tries, each the timer and the socket */
        mend();
        pass_ms(1000);
        CHECK_HEARD(client, ok("/x"));
        say(client, GET("/y"));
        CHECK_HEARD(client, joined(2, ok("/x"), ok("/y")));
        expect_alive();
        close_server();
    }
}

/* For ever is no longer than for a client that reads nothing. */
static void test_ft04_no_memory_to_send_ends_by_the_timer(void)
{
    open_faults();
    peer *client = call_in();
    break_next(SITE_SEND, ENOBUFS, true);
    say(client, GET("/x"));
    pass_ms(20000);
    CHECK(client->closed && !fault.stalled && stats().timeouts == 1);
    mend();
    expect_alive();
    close_server();
}

static void test_ft04_a_send_that_fails_closes(void)
{
    const int errors[] = {EPIPE, ECONNRESET, ETIMEDOUT, EHOSTUNREACH, EBADF};
    for (int i = 0; i < 5; i++) {
        open_faults();
        peer *client = call_in();
        peer *other = call_in();
        say(client, GET("/later"));
        say(other, GET("/later"));
        break_next(SITE_SEND, errors[i], false);
        CHECK(write_text(kept[0], "x") == CK_OK && ck_flush(kept[0]) == CK_OK);
        CHECK(end_text(kept[1], "y") == CK_OK && ck_release(kept[1]) == CK_OK);
        forget_log();
        go();
        CHECK(client->closed && client->out_length == 0);
        CHECK_LOG("aborted 0|");
        CHECK_HEARD(other, ok("y"));
        CHECK(ck_alive(kept[0]) == CK_EXPIRED);
        close_server();
    }
}

/* ---- Receiving and polling ---- */

static void test_ft05_receiving(void)
{
    const int passing[] = {EINTR, EAGAIN};
    const int lasting[] = {ECONNRESET, ENOTCONN};
    for (int i = 0; i < 2; i++) {
        open_faults();
        peer *client = call_in();
        break_next(SITE_RECV, passing[i], false);
        say(client, GET("/x"));
        CHECK(fault.hits == 1);
        CHECK_HEARD(client, ok("/x"));
        close_server();
        open_faults();
        client = call_in();
        say(client, GET("/later"));
        break_next(SITE_RECV, lasting[i], false);
        forget_log();
        say(client, "more");
        CHECK(client->closed);
        CHECK_LOG("aborted 0|");
        close_server();
    }
}

static void test_ft06_a_connection_that_cannot_be_polled(void)
{
    const int errors[] = {ENOSPC, ENOMEM, EEXIST};
    for (int i = 0; i < 3; i++) {
        open_faults();
        peer *other = call_in();
        break_next(SITE_EPOLL_ADD, errors[i], false);
        peer *client = call_in();
        CHECK(client->closed && stats().open == 1);
        say(other, GET("/x"));
        CHECK_HEARD(other, ok("/x"));
        break_next(SITE_EPOLL_MOD, errors[i], false); /* an open one, which must wait to write */
        other->room = 0;
        say(other, GET("/x"));
        CHECK(other->closed && stats().open == 0);
        expect_alive();
        close_server();
    }
}

/* ---- Clocks ---- */

static void test_ft08_clocks_that_stall_and_jump(void)
{
    const int64_t day = 86400 * INT64_C(1000000000);
    open_faults();
    peer *client = call_in(), *idle = call_in(), *answered = call_in();
    say(client, GET("/later"));
    fault.wall_seconds = 784111777 + 86400;
    say(answered, GET("/a"));
    CHECK(strstr(heard(answered), "Date: Mon, 07 Nov 1994 08:49:37 GMT\r\n"));
    fault.wall_seconds = 784111777 - 86400;
    say(answered, GET("/b"));
    CHECK(strstr(heard(answered), "Date: Sat, 05 Nov 1994 08:49:37 GMT\r\n"));
    fault.wall_seconds = 784111777;
    /* Timeouts count sweeps: without one nobody is late, whatever the clock says. */
    world.now_ns += day;
    say(answered, GET("/c"));
    world.now_ns -= 2 * day;
    say(answered, GET("/d"));
    CHECK(!idle->closed && !client->closed && !answered->closed);
    world.now_ns += day;
    pass_ms(16000);
    CHECK(idle->closed && answered->closed && !client->closed);
    CHECK(end_text(kept[0], "late") == CK_OK && ck_release(kept[0]) == CK_OK);
    go();
    CHECK_HEARD(client, ok("late"));
    close_server();
}

/* A pipeline whose handlers seem to take for ever, or less than no time. */
static int64_t jump_ns;

static void jump_and_answer(uint32_t handle)
{
    world.now_ns += jump_ns;
    answer_path(handle);
}

static void test_ft08_clocks_that_jump_inside_a_pipeline(void)
{
    const int64_t jumps[] = {0, 86400 * INT64_C(1000000000), -86400 * INT64_C(1000000000)};
    for (int i = 0; i < 3; i++) {
        open_faulty_server(NULL);
        serve("GET", "/*", jump_and_answer);
        jump_ns = jumps[i];
        peer *client = call_in();
        say(client, GET("/a") GET("/b") GET("/c"));
        CHECK_HEARD(client, joined(3, ok("/a"), ok("/b"), ok("/c")));
        CHECK(jumps[i] > 0 ? client->sends > 1 : client->sends == 1);
        close_server();
    }
}

static void test_ft08_dates_at_the_ends_of_time(void)
{
    const int64_t seconds[] = {-1, -86400, INT64_C(4102444800), INT64_C(253402300799)};
    const char *const dates[] = {"Thu, 01 Jan 1970 00:00:00", "Thu, 01 Jan 1970 00:00:00", "Fri, 01 Jan 2100 00:00:00",
        "Fri, 31 Dec 9999 23:59:59"};
    for (int i = 0; i < 4; i++) {
        kept_count = 0;
        reset_faulty_world();
        fault.wall_seconds = seconds[i]; /* a clock that was never right */
        CHECK(try_open_server(NULL));
        serve("GET", "/*", answer_path);
        peer *client = call_in();
        say(client, GET("/a"));
        char date[64];
        snprintf(date, sizeof(date), "Date: %s GMT\r\n", dates[i]);
        CHECK_FOR(dates[i], strstr(heard(client), date));
        close_server();
    }
}

/* ---- Batches ---- */

typedef struct told {
    int fd;
    uint32_t events;
    void *data; /* of before; NULL: what is registered now */
} told;

static told batch[16];
static int batch_length; /* -1: what is really ready */

static int tell_batch(struct us_sys_t *sys, int epfd, struct epoll_event *events, int capacity, int timeout_ms)
{
    if (batch_length < 0) {
        return f_epoll_wait(sys, epfd, events, capacity, timeout_ms);
    }
    int count = 0;
    for (int i = 0; i < batch_length; i++) {
        void *data = batch[i].data ? batch[i].data : fd_of(batch[i].fd)->data;
        events[count++] = (struct epoll_event) {.events = batch[i].events, .data = {.ptr = data}};
    }
    batch_length = -1;
    return count;
}

/* Lets the next step see just these events, in this order. */
static void step_with(int count, const told *events)
{
    memcpy(batch, events, (size_t) count * sizeof(*events));
    batch_length = count;
    CHECK(ck_loop_step() == count);
    CHECK(batch_length == -1);
}

static void open_batches(void)
{
    open_faults();
    batch_length = -1;
    world.sys.epoll_wait = tell_batch;
}

/* All orders of what can be told of two connections at once; one of them was reset. */
static void test_ft09_orders_of_events(void)
{
    static const uint32_t kinds[] = {EPOLLIN, EPOLLOUT, EPOLLHUP, EPOLLERR, EPOLLIN | EPOLLHUP, EPOLLIN | EPOLLOUT | EPOLLERR | EPOLLHUP,
        EPOLLOUT | EPOLLERR, EPOLLRDHUP | EPOLLIN};
    enum { KINDS = sizeof(kinds) / sizeof(kinds[0]) };
    for (int a = 0; a < KINDS; a++) {
        for (int b = 0; b < KINDS; b++) {
            for (int has_data = 0; has_data < 2; has_data++) {
                open_batches();
                peer *one = call_in(), *two = call_in();
                say(one, GET("/later"));
                say(two, GET("/large"));
                arrive(one, "GET /", has_data ? 5 : 0);
                arrive(two, GET("/x"), has_data ? strlen(GET("/x")) : 0);
                size_t heard_before = two->out_length;
                const told events[] = {{one->fd, kinds[a], NULL}, {two->fd, kinds[b], NULL}, {one->fd, kinds[b], NULL},
                    {two->fd, kinds[a], NULL}};
                void *data_one = fd_of(one->fd)->data, *data_two = fd_of(two->fd)->data;
                told fixed[4];
                for (int i = 0; i < 4; i++) { /* as the kernel does: of the time of the wait */
                    fixed[i] = (told) {events[i].fd, events[i].events, i % 2 ? data_two : data_one};
                }
                step_with(4, fixed);
                go();
                bool errors = (kinds[a] | kinds[b]) & (EPOLLERR | EPOLLHUP);
                if (!errors) {
                    CHECK(!one->closed && !two->closed);
                    CHECK(two->out_length == heard_before + (has_data ? strlen(ok("/x")) : 0));
                }
                expect_alive();
                if (!one->closed) {
                    CHECK(end_text(kept[0], "late") == CK_OK && ck_release(kept[0]) == CK_OK);
                    go();
                    CHECK(strstr(heard(one), "late"));
                }
                close_server();
            }
        }
    }
}

static uint32_t victim;

static void close_the_other(uint32_t handle)
{
    CHECK(ck_close(victim) == CK_OK && ck_release(victim) == CK_OK);
    CHECK(end_text(handle, "closed") == CK_OK);
}

/* The batch still holds an event of a connection that a handler has just closed;
 * its descriptor number may be another connection's already. */
static void test_ft09_an_event_of_a_connection_just_closed(void)
{
    for (int reused = 0; reused < 2; reused++) {
        open_batches();
        serve("GET", "/close/other", close_the_other);
        peer *killer = call_in(), *other = call_in();
        say(other, GET("/later"));
        victim = kept[0];
        int fd = other->fd;
        int listener = 0;
        for (int i = 0; i < FDS_MAX; i++) {
            listener = world.fds[i].kind == FD_LISTENER ? FD_FIRST + i : listener;
        }
        peer *next = reused ? knock() : NULL;
        arrive(killer, GET("/close/other"), strlen(GET("/close/other")));
        const told events[] = {{killer->fd, EPOLLIN, NULL}, {listener, reused ? EPOLLIN : 0, NULL},
            {fd, EPOLLIN | EPOLLOUT | EPOLLERR | EPOLLHUP, fd_of(fd)->data}, {fd, EPOLLIN, fd_of(fd)->data}};
        step_with(4, events);
        CHECK(other->closed && stats().open == 1 + (unsigned) reused);
        if (reused) {
            CHECK(next->fd == fd && !next->closed);
            say(next, GET("/next"));
            CHECK_HEARD(next, ok("/next"));
        }
        CHECK_HEARD(killer, ok("closed"));
        go();
        close_server();
    }
}

static void test_ft10_spurious_wakeups(void)
{
    open_batches();
    peer *client = call_in();
    say(client, GET("/later"));
    step_with(0, batch);
    int fds[FDS_MAX];
    int count = 0;
    for (int i = 0; i < FDS_MAX && count < 16; i++) { /* the listener, the timers, the wakeup, the client */
        if (world.fds[i].polled) {
            fds[count++] = FD_FIRST + i;
        }
    }
    CHECK(count >= 5);
    for (int round = 0; round < 100; round++) {
        told events[16];
        for (int i = 0; i < count; i++) {
            events[i] = (told) {fds[i], EPOLLIN | EPOLLOUT, NULL};
        }
        step_with(count, events);
        CHECK(!client->closed && stats().connections == 1 && stats().timeouts == 0);
    }
    CHECK(end_text(kept[0], "x") == CK_OK && ck_release(kept[0]) == CK_OK);
    go();
    CHECK_HEARD(client, ok("x"));
    CHECK(client->sends == 1);
    close_server();
}

int main(void)
{
    memset(large, 'l', sizeof(large));
    test_ft01_without_descriptors_the_listener_pauses();
    test_ft01_one_client_is_turned_away();
    test_ft02_other_errors_of_accept();
    test_ft03_a_full_kernel();
    test_ft03_writes_of_one_byte();
    test_ft04_no_memory_to_send_does_not_spin();
    test_ft04_no_memory_to_send_ends_by_the_timer();
    test_ft04_a_send_that_fails_closes();
    test_ft05_receiving();
    test_ft06_a_connection_that_cannot_be_polled();
    test_ft08_clocks_that_stall_and_jump();
    test_ft08_clocks_that_jump_inside_a_pipeline();
    test_ft08_dates_at_the_ends_of_time();
    test_ft09_orders_of_events();
    test_ft09_an_event_of_a_connection_just_closed();
    test_ft10_spurious_wakeups();
    return checks_done();
}
