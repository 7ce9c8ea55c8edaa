/* Sending from a file: whole and in order through short writes, turns for other
 * sockets, and failures of the file told from failures of the socket. */
#include "fixture.h"
#include "faults.h"

#include <signal.h>

#define TOTAL (9 << 20)
#define MOST (2 << 20)

static char pattern[TOTAL];
static int file;
static int64_t given;

static void make_file(size_t length) {
    for (size_t i = 0; i < TOTAL; i++) pattern[i] = (char) (i * 2654435761u >> 24);
    char path[] = "/tmp/us_sendfile_XXXXXX";
    file = mkstemp(path);
    CHECK(file >= 0 && unlink(path) == 0);
    CHECK_EQUAL(write(file, pattern, length), (ssize_t) length);
}

static struct us_socket_t *give_more(struct us_socket_t *s) {
    count_writable(s);
    int n = us_socket_sendfile(0, s, file, given, TOTAL - given);
    CHECK(n >= 0 && n <= MOST);
    given += n;
    return s;
}

static void megabytes_arrive_in_order(void) {
    make_file(TOTAL);
    fixture_open();
    us_socket_context_on_writable(0, context, give_more);
    int fd = client();
    given = 0;
    give_more(seen.last);
    CHECK(given > 0 && given < TOTAL);
    CHECK(us_poll_events((struct us_poll_t *) seen.last) & LIBUS_SOCKET_WRITABLE);
    char *got = malloc(TOTAL);
    CHECK_EQUAL(hear(fd, got, TOTAL), TOTAL);
    CHECK(memcmp(got, pattern, TOTAL) == 0);
    free(got);
    settle();
    CHECK_EQUAL(given, TOTAL);
    CHECK_EQUAL(us_poll_events((struct us_poll_t *) seen.last), LIBUS_SOCKET_READABLE);
    close(fd);
    close(file);
    fixture_close();
}

static void it_counts_as_sends(void) {
    faults_reset();
    make_file(100);
    fixture_open_on(&faults.sys, "127.0.0.1");
    int fd = client();
    long long before = us_loop_sends(loop);
    CHECK_EQUAL(us_socket_sendfile(0, seen.last, file, 90, 10), 10);
    CHECK_EQUAL(us_loop_sends(loop) - before, 1);
    CHECK_EQUAL(us_socket_sendfile(0, seen.last, file, 0, 0), 0);
    CHECK_EQUAL(us_socket_sendfile(0, seen.last, file, 0, -1), 0);
    CHECK_EQUAL(faults.calls[CALL_SENDFILE], 1);
    char got[10];
    CHECK_EQUAL(hear(fd, got, 10), 10);
    CHECK(memcmp(got, pattern + 90, 10) == 0);
    close(fd);
    close(file);
    fixture_close();
}

static void a_file_that_gives_out_is_not_the_sockets_fault(void) {
    faults_reset();
    make_file(100);
    fixture_open_on(&faults.sys, "127.0.0.1");
    int fd = client();
    errno = 0;
    CHECK_EQUAL(us_socket_sendfile(0, seen.last, file, 100, 5), -1);
    CHECK_EQUAL(errno, ENODATA);
    faults.fail = CALL_SENDFILE;
    faults.at = 2;
    faults.error = EIO;
    CHECK_EQUAL(us_socket_sendfile(0, seen.last, file, 0, 5), -1);
    CHECK_EQUAL(errno, EIO);
    CHECK_EQUAL(us_socket_last_error(seen.last), 0);
    CHECK_EQUAL(us_socket_write(0, seen.last, "ok", 2, 0), 2);
    expect(fd, "ok");
    close(fd);
    close(file);
    fixture_close();
}

static void a_full_kernel_is_waited_for(void) {
    faults_reset();
    make_file(100);
    fixture_open_on(&faults.sys, "127.0.0.1");
    int fd = client();
    faults.fail = CALL_SENDFILE;
    faults.at = 1;
    faults.error = EAGAIN;
    CHECK_EQUAL(us_socket_sendfile(0, seen.last, file, 0, 5), 0);
    CHECK(us_poll_events((struct us_poll_t *) seen.last) & LIBUS_SOCKET_WRITABLE);
    CHECK_EQUAL(us_socket_last_error(seen.last), 0);
    close(fd);
    close(file);
    fixture_close();
}

/* The signal has its default here, which would end the program. */
static void a_client_that_has_gone_is_no_signal(void) {
    signal(SIGPIPE, SIG_DFL);
    make_file(100);
    fixture_open();
    int fd = client();
    struct us_socket_t *s = seen.last;
    us_socket_read_enabled(s, 0);
    close(fd);
    for (int i = 0; i < 1000 && !us_socket_last_error(s); i++) CHECK_EQUAL(us_socket_sendfile(0, s, file, 0, 100) > 100, 0);
    CHECK(us_socket_last_error(s) == EPIPE || us_socket_last_error(s) == ECONNRESET);
    close(file);
    fixture_close();
}

int main(void) {
    RUN(megabytes_arrive_in_order);
    RUN(it_counts_as_sends);
    RUN(a_file_that_gives_out_is_not_the_sockets_fault);
    RUN(a_full_kernel_is_waited_for);
    RUN(a_client_that_has_gone_is_no_signal);
    return check_result();
}
