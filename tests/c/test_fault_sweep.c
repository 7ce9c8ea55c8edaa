/* One rich session, run again for each system call it makes and each error of
 * that call's manual page (send and receive also with fewer bytes), once and for
 * good; and for each allocation and each object that cannot be had. Whatever
 * happens, the process lives and serves, nothing is left behind, each exchange
 * ends once, nobody hears bytes that belong to no response, and a fault of one
 * connection changes not a byte of another's. */
#include "faulty.h"

enum { CLIENTS = 15, TRACKED = 64, LARGE = 60000 };

enum client {
    PLAIN, PIPELINE, SLOW, POSTED, CHUNKED, HEAD, RESET, HALF_HEAD, LAST, FINISHED, VECTORED, CONTINUED, SILENT, GONE, FILED
};

/* ---- What the handlers keep, and how each exchange ended ---- */

static struct tracked {
    uint32_t handle;
    int ends;
} tracked[TRACKED];
static int tracked_count;
static uint32_t kept[CLIENTS]; /* by the number in the path of /later/N */

static bool keep(uint32_t handle)
{
    if (ck_keep(handle) != CK_OK || !CHECK(tracked_count < TRACKED)) {
        return false;
    }
    tracked[tracked_count++] = (struct tracked) {handle, 0};
    return true;
}

static void ended(uint32_t handle)
{
    for (int i = 0; i < tracked_count; i++) {
        tracked[i].ends += tracked[i].handle == handle;
    }
}

/* Answers what was kept, or leaves it to the core to do so. */
static void conclude(uint32_t handle, const char *text)
{
    (void) end_text(handle, text);
    if (ck_release(handle) == CK_OK) {
        ended(handle);
    }
}

static void on_gone(uint32_t handle)
{
    ended(handle);
    CHECK(ck_release(handle) == CK_OK);
}

static void on_whole_body(uint32_t handle)
{
    conclude(handle, world.event == CK_BODY_COMPLETE ? "collected" : "cut");
}

static void on_part(uint32_t handle)
{
    if (world.event) {
        conclude(handle, "streamed");
    }
}

/* ---- Handlers ---- */

static void release_object(void *made)
{
    if (made) {
        object_decref(made);
    }
}

static void hello(uint32_t handle)
{
    (void) ck_remote_port(handle);
    release_object(ck_py_remote_address(handle));
    release_object(ck_py_header(handle, "host", 4));
    (void) end_text(handle, "hello");
}

static void later(uint32_t handle)
{
    const char *path;
    int length = ck_path_value(handle, &path);
    int number = length > 7 ? atoi(path + 7) : -1;
    if (CHECK(number >= 0 && number < CLIENTS) && keep(handle)) {
        kept[number] = handle;
        if (number == FINISHED) {
            (void) field(handle, "A", "b"); /* waits inside a head */
        }
    }
}

static char large[LARGE];

static void send_large(uint32_t handle)
{
    (void) ck_end(handle, large, LARGE, 0);
}

/* Parts that overflow the cork, one that is sent along with it, and a flush. */
static void send_in_parts(uint32_t handle)
{
    (void) field(handle, "A", "b");
    (void) ck_write(handle, large, 9000);
    (void) ck_write(handle, large, 12000);
    (void) ck_flush(handle);
    (void) ck_write(handle, large, 20000);
    (void) ck_end(handle, large, 100, 0);
}

static int file; /* of LARGE bytes */

static void make_file(void)
{
    char path[] = "/tmp/ck_fault_sweep_XXXXXX";
    file = mkstemp(path);
    CHECK(file >= 0 && unlink(path) == 0 && write(file, large, LARGE) == LARGE);
}

/* In two parts, of which one has to wait for the client; what cannot be sent is a 500. */
static void send_file(uint32_t handle)
{
    (void) field(handle, "Content-Length", "60003");
    (void) write_text(handle, "at:");
    if (ck_send_file(handle, file, 0, LARGE) < 0 && ck_fail(handle) == CK_OK) {
        (void) ck_send(handle, 500, "", 0, "no file", 7, CK_CLOSE);
    }
}

static void collect(uint32_t handle)
{
    if (keep(handle) && ck_body_ask(handle, CK_BODY_COLLECT) == 1) {
        conclude(handle, "at once");
    }
}

static void stream(uint32_t handle)
{
    if (keep(handle)) {
        (void) ck_body_ask(handle, CK_BODY_STREAM);
    }
}

/* ---- The session ---- */

static bool all_routed; /* else requests find nothing, and hear so */

static void route(const char *method, const char *path, handler run)
{
    world.handlers[world.routes] = run;
    int result = ck_app_route(world.app, ck_method_id(method, strlen(method)), path, strlen(path), world.routes++, -1);
    all_routed &= result == 0;
}

static void add_routes(void)
{
    all_routed = true;
    route("GET", "/hello", hello);
    route("GET", "/later/:n", later);
    route("GET", "/large", send_large);
    route("GET", "/parts", send_in_parts);
    route("GET", "/file", send_file);
    route("POST", "/collect", collect);
    route("POST", "/stream/:a/:b", stream);
    all_routed &= ck_app_fixed(world.app, ck_method_id("GET", 3), "/fixed", 6, 200, "A: b\r\n", 6, "fixed", 5) == 0;
    world.aborted = on_gone;
    world.body = on_whole_body;
    world.data = on_part;
}

static void second_app(void)
{
    int error = 0;
    uint32_t app = ck_app_create(&world.limits);
    uint32_t listener = app ? ck_app_listen(app, "127.0.0.1", 81, 0, &error) : 0;
    if (listener) {
        (void) ck_listener_port(listener);
        (void) ck_listener_close(listener);
    }
    if (app) {
        CHECK(ck_app_destroy(app) == CK_OK);
    }
}

static void converse(peer **clients)
{
    say(clients[PLAIN], GET("/hello"));
    say(clients[PIPELINE], GET("/hello") GET("/fixed") GET("/later/1") GET("/hello") GET("/nowhere"));
    clients[SLOW]->room = 20000;
    say(clients[SLOW], GET("/large") GET("/hello"));
    clients[FILED]->room = 20000;
    say(clients[FILED], GET("/file") GET("/hello"));
    say(clients[POSTED], "POST /collect HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhel");
    say(clients[CHUNKED], "POST /stream/1/2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel");
    say(clients[HEAD], "HEAD /hello HTTP/1.1\r\nHost: a\r\n\r\n");
    say(clients[RESET], GET("/later/6"));
    say(clients[HALF_HEAD], "GET /he");
    say(clients[LAST], "GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    say(clients[FINISHED], GET("/later/9"));
    say(clients[VECTORED], GET("/parts"));
    say(clients[CONTINUED], "POST /collect HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    say(clients[GONE], GET("/later/13"));
    pass_ms(100); /* what the kernel had no memory for is sent again */
}

static void conclude_all(peer **clients)
{
    clients[FINISHED]->fin = clients[LAST]->fin = clients[GONE]->fin = true;
    go();
    clients[RESET]->receive_error = clients[RESET]->send_error = ECONNRESET;
    clients[GONE]->receive_error = clients[GONE]->send_error = ECONNRESET;
    go();
    say(clients[PLAIN], GET("/later/0"));
    pass_ms(100);
    if (ck_cork(kept[PLAIN]) == CK_OK) {
        (void) write_text(kept[PLAIN], "corked, ");
        (void) ck_uncork(kept[PLAIN]);
    }
    conclude(kept[PIPELINE], "one");
    conclude(kept[FINISHED], "nine");
    conclude(kept[PLAIN], "and whole");
    go();
    say(clients[POSTED], "lo");
    say(clients[CHUNKED], "lo\r\n0\r\nA: b\r\n\r\n");
    say(clients[CONTINUED], "hello");
    clients[SLOW]->room = clients[FILED]->room = UNLIMITED;
    go();
}

static bool session(void)
{
    peer *clients[CLIENTS];
    tracked_count = 0;
    memset(kept, 0, sizeof(kept));
    if (!try_open_server(NULL)) {
        return false;
    }
    add_routes();
    for (int i = 0; i < CLIENTS; i++) {
        clients[i] = call_in();
        fault.filed = i == FILED ? clients[i] : NULL;
        pass_ms(100); /* a listener that pauses goes on */
    }
    converse(clients);
    second_app();
    CHECK(ck_loop_wake(ck_loop_token()) == CK_OK);
    go();
    conclude_all(clients);
    pass_ms(32000);
    return true;
}

/* Where nothing fails any more, the process serves as ever. */
static void check_alive(void)
{
    mend();
    fault.on = false;
    world.fail_at = world.object_fail_at = 0;
    go();
    pass_ms(1000); /* a listener that pauses */
    peer *client = call_in();
    route("GET", "/alive", answer_hello);
    say(client, GET("/alive"));
    CHECK_HEARD(client, ok("hello"));
}

/* ---- What each client heard, compared with the session without a fault ---- */

static struct {
    char *out;
    size_t length;
    bool shut, closed;
} wanted[CLIENTS];

static void remember(void)
{
    for (int i = 0; i < CLIENTS; i++) {
        const peer *client = world.peers[i];
        wanted[i].out = calloc(1, client->out_length + 1);
        memcpy(wanted[i].out, heard(client), client->out_length);
        wanted[i].length = client->out_length;
        wanted[i].shut = client->shut;
        wanted[i].closed = client->closed;
    }
}

/* An error of the core's own may stand in place of an answer, and ends all. */
static bool is_refusal(const char *at)
{
    static const char *const refusals[] = {"500", "503", "408", "413", "400"};
    for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
        if (strncmp(at, "HTTP/1.1 ", 9) == 0 && strncmp(at + 9, refusals[i], 3) == 0) {
            return true;
        }
    }
    return false;
}

static void check_prefix_or_refusal(int number)
{
    const peer *client = world.peers[number];
    const char *out = heard(client);
    size_t same = 0;
    while (same < client->out_length && same < wanted[number].length && out[same] == wanted[number].out[same]) {
        same++;
    }
    if (same == client->out_length) {
        return;
    }
    while (same > 0 && strncmp(out + same, "HTTP/1.1 ", 9) != 0) {
        same--;
    }
    CHECK(is_refusal(out + same) || !all_routed);
}

static void check_heard(bool others_unaffected)
{
    for (int i = 0; i < CLIENTS; i++) {
        const peer *client = world.peers[i];
        if (others_unaffected && (client != fault.hit || fault.unnoticed)) {
            CHECK(client->out_length == wanted[i].length && memcmp(heard(client), wanted[i].out, wanted[i].length) == 0);
            CHECK(client->shut == wanted[i].shut && client->closed == wanted[i].closed);
        } else {
            check_prefix_or_refusal(i);
        }
    }
}

/* Runs a world that is set up; returns whether its server opened. */
static bool run(bool others_unaffected)
{
    bool opened = session();
    if (opened) {
        check_heard(others_unaffected);
        check_alive();
        close_server();
    } else {
        CHECK(fault.hits || world.fail_at);
        close_world();
    }
    for (int i = 0; i < tracked_count; i++) {
        CHECK(tracked[i].ends == 1);
    }
    return opened;
}

static long calls_of_a_session[SITES];

static void test_without_a_fault(void)
{
    reset_faulty_world();
    CHECK(session());
    remember();
    CHECK(tracked_count == 8 && stats().aborted == 2 && stats().timeouts == 1);
    CHECK(strstr(heard(world.peers[PIPELINE]), "\r\n\r\none") && strstr(heard(world.peers[PLAIN]), "and whole"));
    CHECK(strstr(heard(world.peers[POSTED]), "collected") && strstr(heard(world.peers[CONTINUED]), "100 Continue"));
    CHECK(strstr(heard(world.peers[CHUNKED]), "streamed") && strstr(heard(world.peers[FINISHED]), "nine"));
    CHECK(strstr(heard(world.peers[HALF_HEAD]), " 408 ") && world.peers[SLOW]->out_length > LARGE);
    CHECK(strstr(heard(world.peers[FILED]), "\r\n\r\nat:lll") && strstr(heard(world.peers[FILED]), "\r\n\r\nhello"));
    for (int i = 0; i < CLIENTS; i++) {
        CHECK(world.peers[i]->closed);
    }
    memcpy(calls_of_a_session, fault.calls, sizeof(fault.calls));
    check_alive();
    close_server();
    reset_faulty_world();
    CHECK(run(true));
}

/* ---- System calls ---- */

typedef struct sweep {
    const char *name;
    enum site site;
    bool of_one;    /* the call is about one connection: no other may notice */
    int errors[24]; /* of the manual page */
} sweep;

static const sweep sweeps[] = {
    {"socket", SITE_SOCKET, false, {EACCES, EAFNOSUPPORT, EINVAL, EMFILE, ENFILE, ENOBUFS, ENOMEM, EPROTONOSUPPORT}},
    {"bind", SITE_BIND, false, {EACCES, EADDRINUSE, EADDRNOTAVAIL, EBADF, EFAULT, EINVAL, ENOMEM, ENOTSOCK}},
    {"listen", SITE_LISTEN, false, {EADDRINUSE, EBADF, ENOTSOCK, EOPNOTSUPP}},
    {"accept4", SITE_ACCEPT, true, {EAGAIN, EBADF, ECONNABORTED, EFAULT, EHOSTDOWN, EHOSTUNREACH, EINTR, EINVAL, ENETDOWN,
        ENETUNREACH, EMFILE, ENFILE, ENOBUFS, ENOMEM, ENONET, ENOPROTOOPT, ENOTSOCK, EOPNOTSUPP, EPERM, EPROTO}},
    {"setsockopt", SITE_SETSOCKOPT, true, {EBADF, EFAULT, EINVAL, ENOMEM, ENOPROTOOPT, ENOTSOCK}},
    {"getsockopt", SITE_GETSOCKOPT, true, {EBADF, EFAULT, EINVAL, ENOBUFS, ENOPROTOOPT, ENOTSOCK}},
    {"getsockname", SITE_GETSOCKNAME, true, {EBADF, EFAULT, EINVAL, ENOBUFS, ENOTSOCK}},
    {"getpeername", SITE_GETPEERNAME, true, {EBADF, EFAULT, EINVAL, ENOBUFS, ENOTCONN, ENOTSOCK}},
    {"recv", SITE_RECV, true, {EAGAIN, EBADF, ECONNREFUSED, ECONNRESET, EFAULT, EHOSTUNREACH, EINTR, EINVAL, ENETDOWN, ENOMEM,
        ENOTCONN, ENOTSOCK, ETIMEDOUT}},
    {"send", SITE_SEND, true, {EACCES, EAGAIN, EBADF, ECONNRESET, EDESTADDRREQ, EFAULT, EHOSTUNREACH, EINTR, EINVAL, EISCONN,
        EMSGSIZE, ENETDOWN, ENETUNREACH, ENOBUFS, ENOMEM, ENOTCONN, ENOTSOCK, EOPNOTSUPP, EPIPE, ETIMEDOUT}},
    {"sendv", SITE_SENDV, true, {EACCES, EAGAIN, EBADF, ECONNRESET, EFAULT, EINTR, EINVAL, EMSGSIZE, ENOBUFS, ENOMEM, ENOTCONN,
        ENOTSOCK, EPIPE, ETIMEDOUT}},
    {"shutdown", SITE_SHUTDOWN, true, {EBADF, EINVAL, ENOTCONN, ENOTSOCK}},
    {"close", SITE_CLOSE, false, {EINTR, EIO, ENOSPC, EDQUOT}},
    {"epoll_create1", SITE_EPOLL_CREATE, false, {EINVAL, EMFILE, ENFILE, ENOMEM}},
    {"epoll_ctl add", SITE_EPOLL_ADD, true, {EBADF, EEXIST, EINVAL, ELOOP, ENOMEM, ENOSPC, EPERM}},
    {"epoll_ctl mod", SITE_EPOLL_MOD, true, {EBADF, EINVAL, ENOENT, ENOMEM}},
    {"epoll_ctl del", SITE_EPOLL_DEL, false, {EBADF, EINVAL, ENOENT, ENOMEM}},
    {"epoll_wait", SITE_EPOLL_WAIT, true, {EBADF, EFAULT, EINTR, EINVAL}},
    {"eventfd", SITE_EVENTFD, false, {EINVAL, EMFILE, ENFILE, ENODEV, ENOMEM}},
    {"timerfd_create", SITE_TIMERFD_CREATE, false, {EINVAL, EMFILE, ENFILE, ENODEV, ENOMEM, EPERM}},
    {"timerfd_settime", SITE_TIMERFD_SETTIME, false, {EBADF, ECANCELED, EFAULT, EINVAL}},
    {"read", SITE_READ, false, {EAGAIN, EBADF, EFAULT, EINTR, EINVAL, EIO}},
    {"write", SITE_WRITE, false, {EAGAIN, EBADF, EFAULT, EINTR, EINVAL, EIO}},
    {"open", SITE_OPEN_SPARE, false, {EACCES, EMFILE, ENFILE, ENOENT, ENOMEM}},
    {"sendfile", SITE_SENDFILE, true, {EAGAIN, EBADF, ECONNRESET, EFAULT, EINTR, EINVAL, EIO, ENOBUFS, ENOMEM, EOVERFLOW, EPIPE,
        ESPIPE, ETIMEDOUT}},
    {"fcntl dup", SITE_FILE_DUP, true, {EBADF, EINVAL, EMFILE}},
    {"close of a file", SITE_FILE_CLOSE, true, {EBADF, EINTR, EIO, ENOSPC, EDQUOT}},
};

static bool report_failure(long before, const char *name, long at, const char *how, int error)
{
    if (checks_failed == before) {
        return false;
    }
    fprintf(stderr, "-- in the session with %s number %ld failing %s: %s\n", name, at, how, error ? strerror(error) : "fewer bytes");
    return checks_failed > 20;
}

/* What passes by itself is not to be noticed by the client it hits either. */
static bool passes(enum site site, int error)
{
    bool again = error == EINTR || error == EAGAIN;
    switch (site) {
    case SITE_SEND:
    case SITE_SENDV:
    case SITE_SENDFILE:
        return again || error == ENOBUFS || error == ENOMEM;
    case SITE_ACCEPT:
        return error != EMFILE && error != ENFILE;
    case SITE_RECV:
        return again;
    case SITE_FILE_CLOSE:
        return true; /* there is nobody to tell, and nothing to do */
    default:
        return error == EINTR;
    }
}

static void run_with(enum site site, long at, bool on, int error, size_t bytes, bool of_one)
{
    reset_faulty_world();
    fault.site = site;
    fault.at = at;
    fault.on = on;
    fault.error = error;
    fault.bytes = bytes;
    fault.unnoticed = !on && (error == 0 || passes(site, error));
    (void) run(of_one && !on);
    CHECK(fault.hits > 0);
}

static void sweep_site(const sweep *what)
{
    long calls = calls_of_a_session[what->site];
    CHECK_FOR(what->name, calls > 0);
    for (const int *error = what->errors; *error; error++) {
        for (long at = 1; at <= calls; at++) {
            long before = checks_failed;
            run_with(what->site, at, false, *error, 0, what->of_one);
            if (*error != EINTR && (at == 1 || at % 5 == 0)) { /* a call that is interrupted for ever is none */
                run_with(what->site, at, true, *error, 0, what->of_one);
            }
            if (report_failure(before, what->name, at, "once or for good", *error)) {
                return;
            }
        }
    }
}

/* Fewer bytes than asked for: the answers are the same. */
static void test_short_counts(void)
{
    static const enum site sites[] = {SITE_RECV, SITE_SEND, SITE_SENDV, SITE_SENDFILE};
    static const size_t counts[] = {1, 2, 17, 100, 1000, 16383};
    for (int i = 0; i < 4; i++) {
        for (size_t c = 0; c < sizeof(counts) / sizeof(counts[0]); c++) {
            for (long at = 1; at <= calls_of_a_session[sites[i]]; at++) {
                long before = checks_failed;
                run_with(sites[i], at, false, 0, counts[c], true);
                if (report_failure(before, "receive or send", at, "once", 0)) {
                    return;
                }
            }
        }
    }
}

static void test_each_call_fails_with_each_of_its_errors(void)
{
    for (size_t i = 0; i < sizeof(sweeps) / sizeof(sweeps[0]); i++) {
        sweep_site(&sweeps[i]);
    }
}

/* ---- Memory (FT-07) ---- */

static void run_without_memory(long at, bool on, bool objects)
{
    long before = checks_failed;
    reset_faulty_world();
    *(objects ? &world.object_fail_at : &world.fail_at) = at;
    *(objects ? &world.object_fail_on : &world.fail_on) = on;
    (void) run(false);
    (void) report_failure(before, objects ? "object" : "allocation", at, on ? "for good" : "once", ENOMEM);
}

static void test_ft07_each_allocation_fails(void)
{
    reset_faulty_world();
    CHECK(run(true));
    long allocations = world.allocations, objects = world.objects_made;
    CHECK(allocations > 40 && objects > 10);
    for (long n = 1; n <= allocations && checks_failed < 20; n++) {
        run_without_memory(n, false, false);
        run_without_memory(n, true, false);
    }
    for (long n = 1; n <= objects && checks_failed < 20; n++) {
        run_without_memory(n, false, true);
        run_without_memory(n, true, true);
    }
}

int main(void)
{
    memset(large, 'l', sizeof(large));
    make_file();
    test_without_a_fault();
    test_each_call_fails_with_each_of_its_errors();
    test_short_counts();
    test_ft07_each_allocation_fails();
    for (int i = 0; i < CLIENTS; i++) {
        free(wanted[i].out);
    }
    close(file);
    return checks_done();
}
