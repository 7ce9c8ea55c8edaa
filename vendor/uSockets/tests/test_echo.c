/* Bytes come back over TCP (IPv4, IPv6, dual stack) and unix sockets, with the
 * right addresses and options, in one system call a write. */
#include "fixture.h"
#include "faults.h"

static void echo_over_ipv4(void) {
    fixture_open();
    us_socket_context_on_data(0, context, echo_data);
    int fd = client();
    CHECK_EQUAL(seen.ip_length, 4);
    CHECK(memcmp(seen.ip, "\x7f\0\0\1", 4) == 0);
    say(fd, "hello");
    expect(fd, "hello");
    CHECK_EQUAL(us_loop_sends(loop), 1);

    int on = 0;
    socklen_t size = sizeof on;
    CHECK(getsockopt((int) (intptr_t) us_socket_get_native_handle(0, seen.last), IPPROTO_TCP, TCP_NODELAY, &on, &size) == 0 && on);
    char ip[16];
    int length = sizeof ip;
    us_socket_remote_address(0, seen.last, ip, &length);
    CHECK(length == 4 && memcmp(ip, "\x7f\0\0\1", 4) == 0);
    length = 3;
    us_socket_remote_address(0, seen.last, ip, &length);
    CHECK_EQUAL(length, 0);
    struct sockaddr_in mine;
    size = sizeof mine;
    getsockname(fd, (struct sockaddr *) &mine, &size);
    CHECK_EQUAL(us_socket_remote_port(0, seen.last), ntohs(mine.sin_port));
    CHECK_EQUAL(us_socket_local_port(0, seen.last), us_socket_local_port(0, (struct us_socket_t *) listener));
    close(fd);
    fixture_close();
}

static void echo_over_ipv6_where_there_is_one(void) {
    fixture_open_on(us_sys_default(), "");
    listener = us_socket_context_listen(0, context, "::1", 0, 0, 0);
    if (listener) {
        us_socket_context_on_data(0, context, echo_data);
        struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_addr = in6addr_loopback};
        address.sin6_port = htons((uint16_t) us_socket_local_port(0, (struct us_socket_t *) listener));
        int fd = socket(AF_INET6, SOCK_STREAM, 0);
        CHECK(connect(fd, (struct sockaddr *) &address, sizeof address) == 0);
        say(fd, "six");
        expect(fd, "six");
        CHECK_EQUAL(seen.ip_length, 16);
        close(fd);
    }
    fixture_close();
}

static void all_interfaces_take_ipv4_as_ipv4(void) {
    fixture_open_on(us_sys_default(), NULL);
    us_socket_context_on_data(0, context, echo_data);
    int fd = client();
    CHECK_EQUAL(seen.ip_length, 4);
    say(fd, "mapped");
    expect(fd, "mapped");
    close(fd);
    fixture_close();
}

static void all_interfaces_without_ipv6(void) {
    faults_reset();
    fail_next(CALL_SOCKET, EAFNOSUPPORT, 0);
    fixture_open_on(&faults.sys, NULL);
    int fd = client();
    CHECK_EQUAL(faults.calls[CALL_SOCKET], 2);
    close(fd);
    fixture_close();
}

static void echo_over_unix(void) {
    char path[64];
    temporary_path(path, sizeof path);
    fixture_open_on(us_sys_default(), "");
    us_socket_context_on_data(0, context, echo_data);
    listener = us_socket_context_listen_unix(0, context, path, 0, 0);
    CHECK(listener != NULL);
    int fd = dial_unix(path);
    say(fd, "local");
    expect(fd, "local");
    CHECK_EQUAL(seen.ip_length, 0);
    CHECK_EQUAL(us_socket_remote_port(0, seen.last), 0);
    int length = 16;
    char ip[16];
    us_socket_remote_address(0, seen.last, ip, &length);
    CHECK_EQUAL(length, 0);
    close(fd);
    fixture_close();
    CHECK(access(path, F_OK) != 0);
    remove_temporary(path);
}

static struct us_socket_t *answer_in_two_parts(struct us_socket_t *s, char *data, int length) {
    count_data(s, data, length);
    CHECK_EQUAL(us_socket_write2(0, s, "head:", 5, data, length), 5 + length);
    return s;
}

static void header_and_payload_leave_in_one_call(void) {
    faults_reset();
    fixture_open_on(&faults.sys, "127.0.0.1");
    us_socket_context_on_data(0, context, answer_in_two_parts);
    int fd = client();
    int polls = faults.calls[CALL_EPOLL_CTL];
    say(fd, "body");
    expect(fd, "head:body");
    CHECK_EQUAL(faults.calls[CALL_SENDV], 1);
    CHECK_EQUAL(faults.calls[CALL_SEND], 0);
    CHECK_EQUAL(faults.calls[CALL_RECV], 1);
    CHECK_EQUAL(faults.calls[CALL_EPOLL_CTL], polls);
    CHECK_EQUAL(us_loop_sends(loop), 1);
    close(fd);
    fixture_close();
}

static void held_back_bytes_leave_at_flush(void) {
    fixture_open();
    int fd = client();
    CHECK_EQUAL(us_socket_write(0, seen.last, "now", 3, 1), 3);
    us_socket_flush(0, seen.last);
    expect(fd, "now");
    close(fd);
    fixture_close();
}

static struct us_socket_t *scribble(struct us_socket_t *s, char *data, int length) {
    memset(data - LIBUS_RECV_BUFFER_PADDING, 'x', (size_t) length + 2 * LIBUS_RECV_BUFFER_PADDING);
    return count_data(s, data, length);
}

static void padding_may_be_overwritten(void) {
    fixture_open();
    us_socket_context_on_data(0, context, scribble);
    int fd = client();
    say(fd, "some");
    pump_bytes(4);
    close(fd);
    fixture_close();
}

static struct us_socket_t *at_most_one_buffer(struct us_socket_t *s, char *data, int length) {
    CHECK(length <= LIBUS_RECV_BUFFER_LENGTH);
    memset(data - LIBUS_RECV_BUFFER_PADDING, 'x', (size_t) length + 2 * LIBUS_RECV_BUFFER_PADDING);
    return count_data(s, data, length);
}

static void a_full_buffer_ends_the_turn(void) {
    fixture_open();
    us_socket_context_on_data(0, context, at_most_one_buffer);
    struct us_socket_t *s;
    int fd = unix_client(&s), size = 4 << 20;
    setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size);
    static char big[LIBUS_RECV_BUFFER_LENGTH + 100000];
    long long given = 0;
    while (given < (long long) sizeof big) {
        ssize_t n = send(fd, big + given, sizeof big - (size_t) given, MSG_DONTWAIT);
        if (n > 0) given += n;
        else us_loop_step(loop);
        CHECK(seen.data_events <= us_loop_iteration_number(loop));
    }
    pump_bytes(given);
    CHECK(seen.data_events >= 2);
    close(fd);
    fixture_close();
}

int main(void) {
    RUN(echo_over_ipv4);
    RUN(echo_over_ipv6_where_there_is_one);
    RUN(all_interfaces_take_ipv4_as_ipv4);
    RUN(all_interfaces_without_ipv6);
    RUN(echo_over_unix);
    RUN(header_and_payload_leave_in_one_call);
    RUN(held_back_bytes_leave_at_flush);
    RUN(padding_may_be_overwritten);
    RUN(a_full_buffer_ends_the_turn);
    return check_result();
}
