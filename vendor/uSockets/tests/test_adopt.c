/* Moving sockets: between contexts, sizes, inside callbacks and batches; taking
 * over descriptors before and after they are accepted. */
#include "fixture.h"
#include "faults.h"

static struct us_socket_context_t *child;
static int child_bytes;

static struct us_socket_t *child_data(struct us_socket_t *s, char *data, int length) {
    (void) data;
    child_bytes += length;
    CHECK(us_socket_context(0, s) == child);
    return s;
}

static void open_with_child(struct us_sys_t *sys) {
    fixture_open_on(sys, "127.0.0.1");
    child = us_create_child_socket_context(0, context, 32);
    CHECK(child != NULL && us_socket_context_loop(0, child) == loop);
    CHECK((uintptr_t) us_socket_context_ext(0, child) % LIBUS_EXT_ALIGNMENT == 0);
    us_socket_context_on_data(0, child, child_data);
    us_socket_context_on_close(0, child, count_close);
    us_socket_context_on_timeout(0, child, count_timeout);
    us_socket_context_on_writable(0, child, count_writable);
    child_bytes = 0;
}

static void close_with_child(void) {
    us_socket_context_free(0, child);
    fixture_close();
}

static struct us_socket_t *upgrade(struct us_socket_t *s, char *data, int length) {
    count_data(s, data, length);
    memcpy(us_socket_ext(0, s), "0123456789abcdef", 16);
    struct us_socket_t *now = us_socket_context_adopt_socket(0, child, s, 4096);
    CHECK(now != NULL && now != s);
    CHECK(us_socket_is_closed(0, s) && !us_socket_is_closed(0, now));
    CHECK((uintptr_t) us_socket_ext(0, now) % LIBUS_EXT_ALIGNMENT == 0);
    CHECK(memcmp(us_socket_ext(0, now), "0123456789abcdef", 16) == 0);
    CHECK_EQUAL(((char *) us_socket_ext(0, now))[4095], 0);
    CHECK_EQUAL(us_socket_write(0, s, "dead", 4, 0), 0);
    us_socket_close(0, s, 0, NULL);
    CHECK(us_socket_context_adopt_socket(0, child, s, 1) == s);
    CHECK_EQUAL(us_socket_write(0, now, "moved", 5, 0), 5);
    seen.last = now;
    return now;
}

static void in_its_own_data_callback(void) {
    open_with_child(us_sys_default());
    us_socket_context_on_data(0, context, upgrade);
    int fd = client();
    us_socket_timeout(0, seen.last, 4);
    say(fd, "upgrade");
    expect(fd, "moved");
    say(fd, "frames");
    pump(&child_bytes, 6);
    CHECK_EQUAL(seen.bytes, 7);
    us_loop_sweep(loop);
    CHECK_EQUAL(seen.timeouts, 1);
    close(fd);
    close_with_child();
}

static struct us_socket_t *upgrade_on_open(struct us_socket_t *s, int is_client, char *ip, int ip_length) {
    count_open(s, is_client, ip, ip_length);
    return us_socket_context_adopt_socket(0, child, s, 64);
}

static void in_its_own_open_callback(void) {
    open_with_child(us_sys_default());
    us_socket_context_on_open(0, context, upgrade_on_open);
    int fd = client();
    say(fd, "frames");
    pump(&child_bytes, 6);
    close(fd);
    close_with_child();
}

static struct us_socket_t *upgrade_on_writable(struct us_socket_t *s) {
    count_writable(s);
    s = us_socket_context_adopt_socket(0, child, s, 64);
    CHECK_EQUAL(us_socket_write(0, s, "abc", 3, 0), 1);
    return s;
}

static void in_its_own_writable_callback(void) {
    faults_reset();
    open_with_child(&faults.sys);
    us_socket_context_on_writable(0, context, upgrade_on_writable);
    int fd = client();
    faults.send_limit = 1;
    us_socket_write(0, seen.last, "abc", 3, 0);
    pump(&seen.writable, 2);
    settle();
    expect(fd, "aa");
    close(fd);
    close_with_child();
}

static struct us_socket_t *sockets[3];

static struct us_socket_t *move_all(struct us_socket_t *s, char *data, int length) {
    count_data(s, data, length);
    int self = 0;
    for (int i = 0; i < 3; i++) {
        if (sockets[i] == s) self = i;
        sockets[i] = us_socket_context_adopt_socket(0, child, sockets[i], 100);
    }
    return sockets[self];
}

static void others_of_the_same_batch(void) {
    open_with_child(us_sys_default());
    us_socket_context_on_data(0, context, move_all);
    int fds[3];
    for (int i = 0; i < 3; i++) fds[i] = unix_client(&sockets[i]);
    for (int i = 0; i < 3; i++) say(fds[i], "x");
    pump_bytes(1);
    pump(&child_bytes, 2);
    settle();
    CHECK_EQUAL(seen.bytes, 1);
    CHECK_EQUAL(child_bytes, 2);
    for (int i = 0; i < 3; i++) close(fds[i]);
    close_with_child();
}

static void same_size_stays_in_place(void) {
    open_with_child(us_sys_default());
    int fd = client();
    struct us_socket_t *s = seen.last;
    CHECK(us_socket_context_adopt_socket(0, child, s, 16) == s);
    CHECK(us_socket_context(0, s) == child);
    CHECK(us_socket_context_adopt_socket(0, context, s, -1) == s);
    CHECK(us_socket_context(0, s) == context);
    struct us_socket_t *smaller = us_socket_context_adopt_socket(0, child, s, 0);
    CHECK(smaller && smaller != s);
    say(fd, "x");
    pump(&child_bytes, 1);
    close(fd);
    close_with_child();
}

static void a_failed_move_changes_nothing(void) {
    faults_reset();
    open_with_child(&faults.sys);
    int fd = client();
    struct us_socket_t *s = seen.last;
    fail_next(CALL_ALLOC, ENOMEM, 0);
    CHECK(!us_socket_context_adopt_socket(0, child, s, 64) && errno == ENOMEM);
    fail_next(CALL_EPOLL_CTL, ENOMEM, 0);
    CHECK(!us_socket_context_adopt_socket(0, child, s, 64) && errno == ENOMEM);
    CHECK(!us_socket_context_adopt_socket(0, child, s, -2) && errno == EINVAL);
    CHECK(!us_socket_is_closed(0, s) && us_socket_context(0, s) == context);
    say(fd, "here");
    pump_bytes(4);
    close(fd);
    close_with_child();
}

static int taken = -1, takings;

static int take_over(struct us_socket_context_t *c, int fd, char *ip, int ip_length) {
    (void) c;
    CHECK(ip_length == 4 && memcmp(ip, "\x7f\0\0\1", 4) == 0);
    taken = fd;
    takings++;
    return -1;
}

static int let_through(struct us_socket_context_t *c, int fd, char *ip, int ip_length) {
    (void) c, (void) ip, (void) ip_length;
    return fd;
}

static int close_the_listener(struct us_socket_context_t *c, int fd, char *ip, int ip_length) {
    (void) c, (void) ip, (void) ip_length;
    takings++;
    us_listen_socket_close(0, listener);
    return fd;
}

static void a_descriptor_taken_over_becomes_a_socket_later(void) {
    open_with_child(us_sys_default());
    us_socket_context_on_pre_open(0, context, take_over);
    takings = 0;
    int fd = dial_listener();
    pump(&takings, 1);
    CHECK_EQUAL(seen.opened, 0);
    struct us_socket_t *s = us_adopt_accepted_socket(0, context, taken, 8, "\x7f\0\0\1", 4);
    CHECK(s != NULL && s == seen.last);
    say(fd, "x");
    pump_bytes(1);
    us_socket_context_on_pre_open(0, context, let_through);
    int other = client();
    close(other);
    close(fd);
    close_with_child();
}

static void closing_the_listener_before_open(void) {
    open_with_child(us_sys_default());
    us_socket_context_on_pre_open(0, context, close_the_listener);
    takings = 0;
    int fd = dial_listener();
    pump(&takings, 1);
    expect_end(fd);
    CHECK_EQUAL(seen.opened, 0);
    close(fd);
    close_with_child();
}

static void a_failed_taking_in_leaves_the_descriptor(void) {
    faults_reset();
    open_with_child(&faults.sys);
    int ends[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    fail_next(CALL_ALLOC, 0, 0);
    CHECK(!us_adopt_accepted_socket(0, context, ends[0], 0, NULL, 0) && errno == ENOMEM);
    fail_next(CALL_EPOLL_CTL, ENOSPC, 0);
    CHECK(!us_adopt_accepted_socket(0, context, ends[0], 0, NULL, 0) && errno == ENOSPC);
    CHECK_EQUAL(seen.opened, 0);
    say(ends[0], "open");
    close(ends[0]);
    close(ends[1]);
    close_with_child();
}

/* Its memory is there until the iteration ends, as it is for an on_close of its sockets. */
static void nothing_enters_a_context_that_is_freed(void) {
    int ends[2];
    struct us_socket_t *s;
    fixture_open_on(faults_reset(), "");
    int fd = unix_client(&s);
    struct us_socket_context_t *freed = make_context(0);
    us_socket_context_free(0, freed);
    CHECK(!us_socket_context_adopt_socket(0, freed, s, -1) && errno == ECANCELED);
    CHECK(!us_socket_context_adopt_socket(0, freed, s, 100) && errno == ECANCELED);
    CHECK(!us_socket_is_closed(0, s) && us_socket_context(0, s) == context);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    CHECK(!us_adopt_accepted_socket(0, freed, ends[0], 0, NULL, 0) && errno == ECANCELED);
    CHECK(!us_adopt_connected_socket(0, freed, ends[0], 0, NULL, 0) && errno == ECANCELED);
    CHECK(!us_socket_context_listen(0, freed, "127.0.0.1", 0, 0, 0) && errno == ECANCELED);
    CHECK(!us_socket_context_listen_unix(0, freed, "/tmp", 0, 0) && errno == ECANCELED);
    CHECK(!us_socket_context_connect(0, freed, "127.0.0.1", 1, NULL, 0, 0) && errno == ECANCELED);
    close(ends[0]);
    close(ends[1]);
    us_socket_close(0, s, 0, NULL);
    close(fd);
    fixture_close();
    CHECK_EQUAL(faults.memory, 0);
}

static struct us_socket_t *open_as_client(struct us_socket_t *s, int is_client, char *ip, int ip_length) {
    CHECK_EQUAL(is_client, 1);
    return count_open(s, is_client, ip, ip_length);
}

static void a_connected_descriptor_becomes_a_client(void) {
    fixture_open_on(faults_reset(), "127.0.0.1");
    struct us_socket_context_t *clients = make_context(0);
    us_socket_context_on_open(0, clients, open_as_client);
    int fd = dial_listener();
    fail_next(CALL_ALLOC, ENOMEM, 0);
    CHECK(!us_adopt_connected_socket(0, clients, fd, 8, "\x7f\0\0\1", 4) && errno == ENOMEM);
    fail_next(CALL_EPOLL_CTL, ENOSPC, 0);
    CHECK(!us_adopt_connected_socket(0, clients, fd, 8, "\x7f\0\0\1", 4) && errno == ENOSPC);
    fail_nothing();
    faults.descriptors++;
    struct us_socket_t *s = us_adopt_connected_socket(0, clients, fd, 8, "\x7f\0\0\1", 4);
    CHECK(s && us_socket_is_established(0, s) && seen.ip_length == 4);
    CHECK_EQUAL(us_socket_write(0, s, "hello", 5, 0), 5);
    pump_bytes(5);
    us_socket_close(0, s, 0, NULL);
    pump(&seen.ended, 1);
    us_socket_context_free(0, clients);
    fixture_close();
    CHECK_EQUAL(faults.memory, 0);
    CHECK_EQUAL(faults.descriptors, 0);
}

int main(void) {
    RUN(in_its_own_data_callback);
    RUN(in_its_own_open_callback);
    RUN(in_its_own_writable_callback);
    RUN(others_of_the_same_batch);
    RUN(same_size_stays_in_place);
    RUN(a_failed_move_changes_nothing);
    RUN(a_descriptor_taken_over_becomes_a_socket_later);
    RUN(closing_the_listener_before_open);
    RUN(a_failed_taking_in_leaves_the_descriptor);
    RUN(nothing_enters_a_context_that_is_freed);
    RUN(a_connected_descriptor_becomes_a_client);
    return check_result();
}
