/* Sockets without HTTP: what is told of them and when, one send a callback, the ends, stale
 * handles; and a session run again for each system call, allocation and object that fails,
 * after which every socket that was told of has ended once and nothing is left. */
#include "faulty.h"

enum { TRACKED = 64, BIG = 70000, BACKLOG = 100000 };

static char letters[1 << 18];
static uint32_t context;

static void open_sockets(uint64_t backlog, int manual)
{
    reset_faulty_world();
    memset(letters, 'x', sizeof(letters));
    CHECK(ck_loop_open_on(&world.sys, &world_callbacks) == 0);
    context = ck_context_create(backlog, manual);
    int error = 1;
    uint32_t listener = ck_context_listen(context, "127.0.0.1", 0, 0, &error);
    CHECK(context && listener && error == 0);
}

static void close_sockets(void)
{
    CHECK(ck_loop_close() == 0);
    close_world();
}

static ck_stats counted(void)
{
    ck_stats stats;
    memset(&stats, 0, sizeof(stats));
    CHECK(ck_context_stats(context, &stats) == CK_OK);
    return stats;
}

/* Returns the client's end of a connection that is being made, and its handle. */
static peer *connect_out(uint32_t *handle)
{
    int error = 1;
    peer *server = knock();
    world.waiting_count--;
    world.answering = server;
    *handle = ck_context_connect(context, "127.0.0.1", 80, NULL, &error);
    CHECK(*handle && error == 0);
    return server;
}

static int write_text_to(uint32_t handle, const char *text)
{
    return ck_socket_write(handle, text, (int) strlen(text));
}

/* ---- What is told ---- */

static void test_a_conversation(void)
{
    open_sockets(0, 0);
    peer *client = call_in();
    uint32_t handle = world.last;
    CHECK_TEXT(world.log, "socket 1 0 addr|");
    CHECK(world.number == (int) context);
    say(client, "hello");
    CHECK(write_text_to(handle, "one") == CK_SOCKET_SENT);
    CHECK(write_text_to(handle, " two") == CK_SOCKET_SENT);
    CHECK(ck_socket_buffered(handle) == 7 && client->sends == 0);
    go();
    CHECK_HEARD(client, "one two");
    CHECK(client->sends == 1 && ck_socket_sends(handle) == 1);
    client->fin = true;
    go();
    CHECK_TEXT(world.log, "socket 1 0 addr|socket 4 0 hello|socket 6 0 |");
    CHECK(write_text_to(handle, " three") == CK_SOCKET_SENT);
    CHECK(ck_socket_end(handle) == CK_OK && ck_socket_end(handle) == CK_FINISHED);
    CHECK(write_text_to(handle, "x") == CK_FINISHED);
    go();
    CHECK_HEARD(client, "one two three");
    CHECK_TEXT(world.log, "socket 1 0 addr|socket 4 0 hello|socket 6 0 |socket 9 0 |");
    CHECK(client->closed && counted().open == 0 && counted().connections == 1);
    close_sockets();
}

static void test_connecting(void)
{
    uint32_t handle;
    open_sockets(0, 0);
    peer *server = connect_out(&handle);
    CHECK(ck_socket_buffered(handle) == 0 && ck_socket_port(handle, 1) == 4321);
    CHECK(write_text_to(handle, "early ") == CK_SOCKET_SENT);
    CHECK(ck_socket_flush(handle) == CK_OK);
    CHECK(write_text_to(handle, "bird") == CK_SOCKET_WAITS && server->sends == 0);
    go();
    CHECK_HEARD(server, "early bird");
    CHECK(server->sends == 1);
    CHECK_TEXT(world.log, "socket 2 0 addr|socket 5 0 |");
    server->fin = true;
    go();
    CHECK(ck_socket_shutdown(handle) == CK_OK && ck_socket_shutdown(handle) == CK_FINISHED);
    go();
    CHECK_TEXT(world.log, "socket 2 0 addr|socket 5 0 |socket 6 0 |socket 9 0 |");
    close_sockets();
}

static void test_connecting_fails(void)
{
    uint32_t handle;
    int error = 0;
    open_sockets(0, 0);
    CHECK(ck_context_connect(context, "127.0.0.1", 80, NULL, &error) == 0 && error == ECONNREFUSED);
    CHECK(ck_context_connect(context, "127.0.0.1", 70000, NULL, &error) == 0 && error == EINVAL);
    CHECK(ck_context_connect_unix(context, "/no/such", &error) == 0 && error == ECONNREFUSED);
    (void) connect_out(&handle);
    world.connect_error = EHOSTUNREACH;
    go();
    char wanted[64];
    snprintf(wanted, sizeof(wanted), "socket 3 %d |", EHOSTUNREACH);
    CHECK_TEXT(world.log, wanted);
    CHECK(ck_socket_close(handle, 0) == CK_EXPIRED);
    forget_log();
    peer *silent = connect_out(&handle);
    silent->room = 0; /* never writable: does not open */
    CHECK(ck_socket_timeout(handle, 4) == CK_OK);
    go();
    CHECK_TEXT(world.log, "");
    CHECK(ck_loop_sweep() == CK_OK);
    snprintf(wanted, sizeof(wanted), "socket 3 %d |", ETIMEDOUT);
    CHECK_TEXT(world.log, wanted);
    forget_log();
    (void) connect_out(&handle);
    CHECK(ck_socket_close(handle, 0) == CK_OK);
    snprintf(wanted, sizeof(wanted), "socket 3 %d |", ECANCELED);
    CHECK_TEXT(world.log, wanted);
    close_sockets();
}

static void test_timers_and_timeouts(void)
{
    open_sockets(0, 0);
    (void) call_in();
    uint32_t handle = world.last;
    forget_log();
    CHECK(ck_socket_timeout(handle, 8) == CK_OK && ck_socket_long_timeout(handle, 1) == CK_OK);
    CHECK(ck_loop_sweep() == CK_OK);
    CHECK_TEXT(world.log, "");
    CHECK(ck_loop_sweep() == CK_OK);
    CHECK_TEXT(world.log, "socket 7 0 |");
    for (int i = 0; i < 13; i++) {
        CHECK(ck_loop_sweep() == CK_OK);
    }
    CHECK_TEXT(world.log, "socket 7 0 |socket 8 0 |");
    forget_log();
    int alive = ck_loop_alive();
    uint32_t timer = ck_timer_create(0), quiet = ck_timer_create(1);
    CHECK(timer && quiet && ck_loop_alive() == alive + 1);
    CHECK(ck_timer_set(timer, 10, 5) == CK_OK);
    pass_ms(21);
    CHECK_TEXT(world.log, "socket 10 0 |socket 10 0 |socket 10 0 |");
    CHECK(world.last == timer);
    CHECK(ck_timer_close(timer) == CK_OK && ck_timer_close(timer) == CK_EXPIRED && ck_timer_set(timer, 1, 0) == CK_EXPIRED);
    CHECK(ck_loop_alive() == alive);
    close_sockets(); /* with the other timer open */
}

/* ---- One send ---- */

static void write_three(uint32_t handle)
{
    if (world.event != CK_SOCKET_CLOSED && world.event != CK_SOCKET_CONNECT_ERROR) {
        CHECK(ck_corked() == handle);
        CHECK(write_text_to(handle, "a") >= 0 && write_text_to(handle, "b") >= 0 && write_text_to(handle, "c") >= 0);
    } else {
        CHECK(write_text_to(handle, "a") == CK_EXPIRED && ck_socket_cork(handle) == CK_EXPIRED);
    }
}

static void test_each_callback_is_one_send(void)
{
    open_sockets(0, 0);
    world.socket = write_three;
    peer *client = call_in();
    uint32_t handle = world.last;
    CHECK(client->sends == 1);
    say(client, "x");
    CHECK(client->sends == 2);
    CHECK(ck_socket_timeout(handle, 4) == CK_OK && ck_loop_sweep() == CK_OK);
    CHECK(client->sends == 3);
    client->fin = true;
    go();
    CHECK(client->sends == 4);
    CHECK_HEARD(client, "abcabcabcabc");
    ck_stats stats = counted();
    CHECK(stats.sends == 4 && stats.flushes[CK_FLUSH_UNCORK] == 4 && stats.uncorked_writes == 0 && stats.bytes == 12);
    CHECK(ck_socket_close(handle, 5) == CK_OK);
    close_sockets();
}

static void test_corks(void)
{
    open_sockets(0, 0);
    peer *one = call_in();
    uint32_t first = world.last;
    peer *two = call_in();
    uint32_t second = world.last;
    CHECK(ck_socket_cork(first) == CK_OK && ck_socket_cork(second) == CK_OK && ck_socket_cork(first) == CK_OK);
    CHECK(ck_corked() == first);
    (void) write_text_to(first, "1");
    (void) write_text_to(second, "2");
    CHECK(ck_socket_uncork(first) == 1 && one->sends == 0);
    CHECK(ck_corked() == second);
    CHECK(ck_socket_uncork(second) == 0 && two->sends == 1);
    CHECK(ck_socket_write(first, letters, BIG) == CK_SOCKET_SENT && one->sends == 1 && one->out_length == BIG + 1);
    (void) write_text_to(first, "3");
    CHECK(ck_socket_flush(first) == CK_OK && one->sends == 2);
    CHECK(ck_socket_uncork(first) == 0 && ck_socket_uncork(first) == 0 && ck_corked() == 0);
    CHECK(counted().nested_corks == 1);
    close_sockets();
}

static void test_manual(void)
{
    open_sockets(0, 1);
    peer *client = call_in();
    uint32_t handle = world.last;
    CHECK(write_text_to(handle, "a") == CK_SOCKET_SENT && client->sends == 1);
    CHECK(ck_socket_cork(handle) == CK_OK);
    CHECK(write_text_to(handle, "b") == CK_SOCKET_SENT && write_text_to(handle, "c") == CK_SOCKET_SENT && client->sends == 1);
    CHECK(ck_socket_uncork(handle) == 0 && client->sends == 2);
    CHECK(write_text_to(handle, "") == CK_SOCKET_SENT && client->sends == 2);
    CHECK_HEARD(client, "abc");
    close_sockets();
}

/* ---- Backpressure and ends ---- */

static void test_a_slow_reader(void)
{
    open_sockets(BACKLOG, 0);
    peer *client = call_in();
    uint32_t handle = world.last;
    forget_log();
    client->room = 1000;
    CHECK(ck_socket_write(handle, letters, BIG) == CK_SOCKET_WAITS);
    CHECK(ck_socket_buffered(handle) == BIG - 1000);
    go();
    CHECK_TEXT(world.log, "");
    client->room = 1000;
    go();
    CHECK_TEXT(world.log, "");
    client->room = UNLIMITED;
    go();
    CHECK_TEXT(world.log, "socket 5 0 |");
    CHECK(client->out_length == BIG && ck_socket_buffered(handle) == 0);
    forget_log();
    client->room = 0;
    CHECK(ck_socket_write(handle, letters, BACKLOG) == CK_SOCKET_WAITS);
    CHECK(ck_socket_write(handle, letters, 1) == CK_ABORTED);
    char wanted[64];
    snprintf(wanted, sizeof(wanted), "socket 9 %d |", ENOBUFS);
    CHECK_TEXT(world.log, wanted);
    CHECK(ck_socket_write(handle, letters, 1) == CK_EXPIRED && client->closed);
    close_sockets();
}

static void test_ends_wait_for_what_waits(void)
{
    open_sockets(0, 0);
    peer *client = call_in();
    uint32_t handle = world.last;
    client->room = 0;
    (void) ck_socket_write(handle, letters, BIG);
    CHECK(ck_socket_shutdown(handle) == CK_OK);
    go();
    CHECK(!client->shut);
    client->room = UNLIMITED;
    go();
    CHECK(client->shut && !client->closed && client->out_length == BIG);
    CHECK(ck_socket_end(handle) == CK_OK);
    go();
    CHECK(client->closed);
    client = call_in();
    handle = world.last;
    forget_log();
    client->room = 0;
    (void) ck_socket_write(handle, letters, BIG);
    CHECK(ck_socket_end(handle) == CK_OK);
    say(client, "what arrives now is dropped");
    CHECK_TEXT(world.log, "");
    for (int i = 0; i < 8; i++) {
        CHECK(!client->closed && ck_loop_sweep() == CK_OK);
    }
    char wanted[64];
    snprintf(wanted, sizeof(wanted), "socket 9 %d |", ETIMEDOUT);
    CHECK_TEXT(world.log, wanted);
    close_sockets();
}

static void test_a_peer_that_is_gone(void)
{
    open_sockets(0, 0);
    peer *client = call_in();
    uint32_t handle = world.last;
    forget_log();
    client->send_error = EPIPE;
    arrive(client, "last words", 10);
    (void) write_text_to(handle, "x");
    CHECK(ck_socket_flush(handle) == CK_ABORTED);
    CHECK(write_text_to(handle, "y") == CK_ABORTED);
    go();
    client->fin = true;
    go();
    char wanted[64];
    snprintf(wanted, sizeof(wanted), "socket 4 0 last words|socket 9 %d |", EPIPE);
    CHECK_TEXT(world.log, wanted);
    close_sockets();
}

static void test_pausing(void)
{
    open_sockets(0, 0);
    peer *client = call_in();
    uint32_t handle = world.last;
    forget_log();
    CHECK(ck_socket_pause(handle, 1) == CK_OK);
    say(client, "later");
    CHECK_TEXT(world.log, "");
    CHECK(ck_socket_pause(handle, 0) == CK_OK);
    go();
    CHECK_TEXT(world.log, "socket 4 0 later|");
    close_sockets();
}

static void test_adopting(void)
{
    open_sockets(0, 0);
    peer *client = knock();
    world.waiting_count--;
    int error = 1, descriptor = fd_new(FD_PEER);
    fd_of(descriptor)->client = client;
    client->fd = descriptor;
    uint32_t handle = ck_context_adopt(context, descriptor, 0, &error);
    CHECK(handle && error == 0);
    CHECK_TEXT(world.log, "");
    CHECK(ck_socket_descriptor(handle) == descriptor);
    object *address = ck_py_socket_address(handle), *tls = ck_py_socket_tls(handle);
    CHECK(address->length == 4 && tls == &object_none);
    object_decref(address);
    object_decref(tls);
    say(client, "x");
    CHECK_TEXT(world.log, "socket 4 0 x|");
    CHECK(ck_socket_close(handle, 0) == CK_OK && client->closed);
    close_sockets();
}

/* ---- Closing in callbacks ---- */

static int closing_event;
static bool closes_context;

static void close_in(uint32_t handle)
{
    if (world.event == closing_event) {
        CHECK(closes_context ? ck_context_close(context) == CK_OK : ck_socket_close(handle, 7) == CK_OK);
        CHECK(ck_socket_write(handle, "x", 1) == CK_EXPIRED);
    }
}

static void provoke(peer *client, uint32_t handle)
{
    say(client, "data");
    client->room = 0;
    (void) ck_socket_write(handle, letters, BIG);
    go();
    client->room = UNLIMITED;
    go();
    (void) ck_socket_timeout(handle, 4);
    (void) ck_socket_long_timeout(handle, 1);
    for (int i = 0; i < 15; i++) {
        CHECK(ck_loop_sweep() == CK_OK);
    }
    client->fin = true;
    go();
}

static int count_in_log(const char *text)
{
    int count = 0;
    for (const char *at = world.log; (at = strstr(at, text)); at++) {
        count++;
    }
    return count;
}

static void test_closing_in_every_callback(void)
{
    for (closing_event = CK_SOCKET_ACCEPTED; closing_event <= CK_SOCKET_LONG_TIMEOUT; closing_event++) {
        for (int whole = 0; whole < 2; whole++) {
            closes_context = whole;
            open_sockets(0, 0);
            world.socket = close_in;
            peer *client = call_in(), *other = call_in();
            provoke(client, world.last);
            provoke(other, world.last);
            uint32_t handle;
            if (!ck_context_stats(context, &(ck_stats) {.open = 0})) {
                peer *server = connect_out(&handle);
                provoke(server, handle);
            }
            (void) ck_context_close(context);
            CHECK(count_in_log("socket 1 ") + count_in_log("socket 2 ") == count_in_log("socket 9 "));
            CHECK(ck_loop_handles() == 0);
            close_sockets();
        }
    }
}

static void connect_again(uint32_t handle)
{
    int error;
    (void) handle;
    if (world.event == CK_SOCKET_CLOSED || world.event == CK_SOCKET_CONNECT_ERROR) {
        CHECK(ck_context_connect(context, "127.0.0.1", 80, NULL, &error) == 0);
        CHECK(ck_context_create(0, 0) == 0 || ck_loop_alive() > 0);
    }
}

static void test_nothing_is_opened_while_closing(void)
{
    uint32_t handle;
    open_sockets(0, 0);
    (void) call_in();
    (void) connect_out(&handle);
    uint32_t timer = ck_timer_create(0);
    CHECK(timer && ck_timer_set(timer, 1, 1) == CK_OK);
    world.socket = connect_again;
    close_sockets();
}

/* ---- Handles ---- */

static void check_refused(uint32_t handle, int wanted)
{
    ck_stats stats;
    int error;
    CHECK(ck_context_close(handle) == wanted && ck_context_stats(handle, &stats) == wanted);
    CHECK(ck_context_listen(handle, NULL, 0, 0, &error) == 0 && ck_context_listen_unix(handle, "x", 0, &error) == 0);
    CHECK(ck_context_connect(handle, NULL, 1, NULL, &error) == 0 && ck_context_connect_unix(handle, "x", &error) == 0);
    CHECK(ck_context_adopt(handle, -1, 0, &error) == 0);
    CHECK(ck_context_verify(handle, 0) == wanted && ck_context_peer_name(handle, "a") == wanted);
    CHECK(ck_context_protocol(handle, "a") == wanted && ck_context_protocols(handle, "a") == wanted);
    CHECK(ck_socket_write(handle, "x", 1) == wanted && ck_socket_write_large(handle, "x", 1) == wanted);
    CHECK(ck_socket_send_file(handle, 0, 0, 1) == wanted && ck_socket_buffered(handle) == wanted);
    CHECK(ck_socket_cork(handle) == wanted && ck_socket_uncork(handle) == wanted && ck_socket_flush(handle) == wanted);
    CHECK(ck_socket_sends(handle) == wanted && ck_socket_shutdown(handle) == wanted && ck_socket_end(handle) == wanted);
    CHECK(ck_socket_close(handle, 1) == wanted && ck_socket_pause(handle, 1) == wanted);
    CHECK(ck_socket_timeout(handle, 1) == wanted && ck_socket_long_timeout(handle, 1) == wanted);
    CHECK(ck_socket_port(handle, 0) == wanted && ck_socket_descriptor(handle) == wanted);
    CHECK(ck_py_socket_address(handle) == NULL && ck_py_socket_tls(handle) == NULL);
    CHECK(ck_timer_set(handle, 1, 0) == wanted && ck_timer_close(handle) == wanted);
}

static void test_stale_handles(void)
{
    open_sockets(0, 0);
    (void) call_in();
    uint32_t handle = world.last;
    CHECK(ck_socket_close(handle, 0) == CK_OK);
    check_refused(handle, CK_EXPIRED);
    check_refused(0, CK_EXPIRED);
    uint32_t timer = ck_timer_create(0);
    CHECK(ck_socket_write(timer, "x", 1) == CK_EXPIRED && ck_timer_set(context, 1, 1) == CK_EXPIRED);
    CHECK(ck_cork(context) == CK_EXPIRED && ck_ws_cork(handle) == CK_EXPIRED);
    uint32_t old = context;
    CHECK(ck_context_close(context) == CK_OK);
    check_refused(old, CK_EXPIRED);
    close_sockets();
    check_refused(old, CK_EXPIRED);
    CHECK(ck_context_create(0, 0) == 0 && ck_timer_create(0) == 0);
}

/* ---- The sweep: whatever fails, each ends once and nothing is left ---- */

static struct {
    uint32_t handle;
    bool opened;
    int ends;
} tracked[TRACKED];
static int tracked_count;

static int which(uint32_t handle)
{
    for (int i = 0; i < tracked_count; i++) {
        if (tracked[i].handle == handle) {
            return i;
        }
    }
    return -1;
}

static void track(uint32_t handle)
{
    if (handle && CHECK(tracked_count < TRACKED)) {
        tracked[tracked_count].handle = handle;
        tracked[tracked_count].opened = false;
        tracked[tracked_count++].ends = 0;
    }
}

static void on_event(uint32_t handle)
{
    if (world.event == CK_SOCKET_ACCEPTED) {
        track(handle);
    }
    int i = which(handle);
    CHECK(i >= 0 || world.event == CK_SOCKET_TIMER); /* nothing is told of what nobody knows */
    if (i >= 0 && (world.event == CK_SOCKET_CLOSED || world.event == CK_SOCKET_CONNECT_ERROR)) {
        CHECK((world.event == CK_SOCKET_CLOSED) == tracked[i].opened);
        tracked[i].ends++;
        return;
    }
    if (i >= 0) {
        tracked[i].opened |= world.event == CK_SOCKET_ACCEPTED || world.event == CK_SOCKET_CONNECTED;
        (void) write_text_to(handle, "told ");
        (void) ck_socket_cork(handle);
        (void) write_text_to(handle, "of ");
        (void) ck_socket_uncork(handle);
    }
}

static void talk(peer *client, uint32_t handle)
{
    say(client, "question");
    (void) write_text_to(handle, "before it ");
    (void) ck_socket_write(handle, letters, 20000);
    (void) write_text_to(handle, "behind it");
    client->room = 500;
    go();
    (void) ck_socket_write(handle, letters, 40000);
    client->room = UNLIMITED;
    go();
    pass_ms(100); /* what the kernel had no memory for */
}

static void session(void)
{
    int error = 0;
    tracked_count = 0;
    if (ck_loop_open_on(&world.sys, &world_callbacks) != 0) {
        return;
    }
    context = ck_context_create(0, 0);
    if (context) {
        (void) ck_context_listen(context, "127.0.0.1", 0, 0, &error);
    }
    uint32_t timer = ck_timer_create(0);
    (void) ck_timer_set(timer, 50, 3000);
    for (int i = 0; i < 3; i++) {
        peer *client = call_in();
        pass_ms(100); /* a listener that pauses goes on */
        talk(client, tracked_count ? tracked[tracked_count - 1].handle : 0);
    }
    for (int i = 0; i < 2; i++) {
        peer *server = knock();
        world.waiting_count--;
        world.answering = server;
        uint32_t handle = ck_context_connect(context, "127.0.0.1", 80, NULL, &error);
        world.answering = NULL;
        track(handle);
        (void) write_text_to(handle, "early");
        go();
        talk(server, handle);
    }
    if (tracked_count > 1) {
        (void) ck_socket_end(tracked[0].handle);
        (void) ck_socket_shutdown(tracked[1].handle);
        (void) ck_socket_timeout(tracked[1].handle, 4);
    }
    world.peers[2]->fin = true;
    go();
    pass_ms(9000);
    (void) ck_timer_close(timer);
}

static void run_session(void)
{
    world.socket = on_event;
    session();
    mend();
    fault.on = false;
    world.fail_at = world.object_fail_at = 0;
    if (ck_loop_token()) {
        go();
        CHECK(ck_loop_close() == 0);
    }
    for (int i = 0; i < tracked_count; i++) {
        CHECK(tracked[i].ends == 1);
    }
    close_world();
}

static const struct {
    enum site site;
    int errors[6];
} sites[] = {
    {SITE_SOCKET, {EMFILE, ENOMEM}}, {SITE_ACCEPT, {EMFILE, ECONNABORTED, ENOMEM}}, {SITE_SETSOCKOPT, {EINVAL, ENOMEM}},
    {SITE_GETSOCKOPT, {EINVAL}}, {SITE_RECV, {ECONNRESET, ENOMEM, ETIMEDOUT}},
    {SITE_SEND, {EPIPE, ECONNRESET, ENOBUFS, EAGAIN}}, {SITE_SENDV, {EPIPE, ENOBUFS, EAGAIN}}, {SITE_SHUTDOWN, {ENOTCONN}},
    {SITE_CLOSE, {EIO}}, {SITE_EPOLL_CREATE, {EMFILE}}, {SITE_EPOLL_ADD, {ENOMEM, ENOSPC}}, {SITE_EPOLL_MOD, {ENOMEM}},
    {SITE_EPOLL_DEL, {ENOMEM}}, {SITE_EPOLL_WAIT, {EIO}}, {SITE_EVENTFD, {EMFILE}}, {SITE_TIMERFD_CREATE, {EMFILE}},
    {SITE_TIMERFD_SETTIME, {EINVAL}}, {SITE_READ, {EIO}}, {SITE_WRITE, {EAGAIN}}, {SITE_OPEN_SPARE, {EMFILE}},
};

static void test_every_call_fails(void)
{
    reset_faulty_world();
    run_session();
    long calls[SITES];
    memcpy(calls, fault.calls, sizeof(calls));
    CHECK(tracked_count == 5);
    CHECK(calls[SITE_SENDV] && calls[SITE_SEND]);
    for (size_t s = 0; s < sizeof(sites) / sizeof(sites[0]); s++) {
        for (int e = 0; e < 6 && sites[s].errors[e]; e++) {
            for (long n = 1; n <= calls[sites[s].site]; n++) {
                for (int on = 0; on < 2; on++) {
                    reset_faulty_world();
                    fault.site = sites[s].site;
                    fault.at = n;
                    fault.on = on != 0;
                    fault.error = sites[s].errors[e];
                    run_session();
                }
            }
        }
    }
}

static void test_every_allocation_and_object_fails(void)
{
    reset_faulty_world();
    run_session();
    long allocations = world.allocations, objects = world.objects_made;
    CHECK(allocations > 10 && objects > 5);
    for (int on = 0; on < 2; on++) {
        for (long n = 1; n <= allocations; n++) {
            reset_faulty_world();
            world.fail_at = n;
            world.fail_on = on != 0;
            run_session();
        }
        for (long n = 1; n <= objects; n++) {
            reset_faulty_world();
            world.object_fail_at = n;
            world.object_fail_on = on != 0;
            run_session();
        }
    }
}

int main(void)
{
    test_a_conversation();
    test_connecting();
    test_connecting_fails();
    test_timers_and_timeouts();
    test_each_callback_is_one_send();
    test_corks();
    test_manual();
    test_a_slow_reader();
    test_ends_wait_for_what_waits();
    test_a_peer_that_is_gone();
    test_pausing();
    test_adopting();
    test_closing_in_every_callback();
    test_nothing_is_opened_while_closing();
    test_stale_handles();
    test_every_call_fails();
    test_every_allocation_and_object_fails();
    return checks_done();
}
