/* Listening: errors that say what is wrong, and the life of a unix path. */
#include "fixture.h"
#include "faults.h"

#include <fcntl.h>
#include <sys/stat.h>

static void a_taken_port(void) {
    fixture_open();
    int port = us_socket_local_port(0, (struct us_socket_t *) listener);
    CHECK(port > 0);
    struct us_listen_socket_t *shared = us_socket_context_listen(0, context, "127.0.0.1", port, LIBUS_LISTEN_DEFAULT, 0);
    CHECK(shared != NULL);
    CHECK(!us_socket_context_listen(0, context, "127.0.0.1", port, LIBUS_LISTEN_EXCLUSIVE_PORT, 0) && errno == EADDRINUSE);
    fixture_close();
}

static void bad_addresses(void) {
    fixture_open();
    CHECK(!us_socket_context_listen(0, context, "no such host.invalid", 0, 0, 0) && errno == EADDRNOTAVAIL);
    CHECK(!us_socket_context_listen(0, context, "192.0.2.1", 0, 0, 0) && errno == EADDRNOTAVAIL);
    CHECK(!us_socket_context_listen(0, context, NULL, -1, 0, 0) && errno == EINVAL);
    CHECK(!us_socket_context_listen(0, context, NULL, 65536, 0, 0) && errno == EINVAL);
    CHECK(!us_socket_context_listen(0, context, NULL, 0, 0, -1) && errno == EINVAL);
    fixture_close();
}

static void bad_paths(void) {
    char path[64], longer[200];
    temporary_path(path, sizeof path);
    fixture_open_on(us_sys_default(), "");
    memset(longer, 'x', sizeof longer);
    longer[sizeof longer - 1] = 0;
    CHECK(!us_socket_context_listen_unix(0, context, longer, 0, 0) && errno == ENAMETOOLONG);
    CHECK(!us_socket_context_listen_unix(0, context, "", 0, 0) && errno == EINVAL);
    CHECK(!us_socket_context_listen_unix(0, context, path, 0, -1) && errno == EINVAL);
    close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    CHECK(!us_socket_context_listen_unix(0, context, path, 0, 0) && errno == EADDRINUSE);
    CHECK(access(path, F_OK) == 0);
    fixture_close();
    remove_temporary(path);
}

static void a_stale_path_is_replaced_and_our_own_removed(void) {
    char path[64];
    temporary_path(path, sizeof path);
    fixture_open_on(us_sys_default(), "");
    struct us_listen_socket_t *first = us_socket_context_listen_unix(0, context, path, 0, 0);
    struct us_listen_socket_t *second = us_socket_context_listen_unix(0, context, path, 0, 0);
    CHECK(first && second);
    us_listen_socket_close(0, first);
    CHECK(access(path, F_OK) == 0); /* it is the second one's by now */
    int fd = dial_unix(path);
    pump(&seen.opened, 1);
    us_listen_socket_close(0, second);
    CHECK(access(path, F_OK) != 0);
    close(fd);
    fixture_close();
    remove_temporary(path);
}

static void every_failing_call_leaves_nothing(void) {
    const enum call calls[] = {CALL_SOCKET, CALL_BIND, CALL_LISTEN, CALL_ALLOC, CALL_EPOLL_CTL, CALL_TIMERFD_CREATE, CALL_UNLINK};
    const int errors[] = {EMFILE, EACCES, EADDRINUSE, ENOMEM, ENOSPC, EMFILE, EPERM};
    char path[64];
    temporary_path(path, sizeof path);
    for (int i = 0; i < 14; i++) {
        int unix_path = i % 2, failures = !is_made(calls[i / 2]);
        for (int at = 1;; at++) {
            faults_reset();
            fixture_open_on(&faults.sys, "");
            int memory = faults.memory, descriptors = faults.descriptors;
            struct us_listen_socket_t *stale = calls[i / 2] == CALL_UNLINK && unix_path ? us_socket_context_listen_unix(0, context, path, 0, 0) : NULL;
            int extra_memory = faults.memory - memory, extra_descriptors = faults.descriptors - descriptors;
            fail_next(calls[i / 2], errors[i / 2], 0);
            faults.at = faults.until = faults.calls[calls[i / 2]] + at;
            struct us_listen_socket_t *ls = unix_path ? us_socket_context_listen_unix(0, context, path, 0, 0) : us_socket_context_listen(0, context, "127.0.0.1", 0, 0, 0);
            if (ls) {
                fail_nothing();
                fixture_close();
                CHECK(failures > 0 || calls[i / 2] == CALL_UNLINK);
                break;
            }
            failures++;
            CHECK_EQUAL(errno, errors[i / 2]);
            /* The retry timer stays for the next try: an object and a descriptor. */
            CHECK(faults.memory - memory - extra_memory <= 1 && faults.descriptors - descriptors - extra_descriptors <= 1);
            fail_nothing();
            if (!stale) CHECK(access(path, F_OK) != 0);
            fixture_close();
            CHECK(faults.memory == 0 && faults.descriptors == 0);
        }
    }
    remove_temporary(path);
}

static void options_that_cannot_be_set_do_no_harm(void) {
    faults_reset();
    faults.fail = CALL_SETSOCKOPT;
    faults.at = 1;
    faults.until = 1000;
    faults.error = ENOPROTOOPT;
    fixture_open_on(&faults.sys, NULL);
    us_socket_context_on_data(0, context, echo_data);
    int fd = client();
    say(fd, "x");
    expect(fd, "x");
    us_socket_flush(0, seen.last);
    close(fd);
    fixture_close();
}

static void questions_that_fail(void) {
    faults_reset();
    fixture_open_on(&faults.sys, "127.0.0.1");
    int fd = client();
    fail_next(CALL_GETSOCKNAME, ENOBUFS, 0);
    CHECK_EQUAL(us_socket_local_port(0, seen.last), -1);
    fail_next(CALL_GETPEERNAME, ENOTCONN, 1);
    CHECK_EQUAL(us_socket_remote_port(0, seen.last), -1);
    char ip[16];
    int length = 16;
    us_socket_remote_address(0, seen.last, ip, &length);
    CHECK_EQUAL(length, 0);
    close(fd);
    fixture_close();
}

int main(void) {
    RUN(a_taken_port);
    RUN(bad_addresses);
    RUN(bad_paths);
    RUN(a_stale_path_is_replaced_and_our_own_removed);
    RUN(every_failing_call_leaves_nothing);
    RUN(options_that_cannot_be_set_do_no_harm);
    RUN(questions_that_fail);
    return check_result();
}
