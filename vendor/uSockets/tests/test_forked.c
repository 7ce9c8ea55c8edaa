/* After a fork: whatever the child still does with the loop, the parent's sockets,
 * its poller and its paths notice nothing. */
#include "fixture.h"

#include <sys/wait.h>

static char path[64];
static struct us_udp_packet_buffer_t *packets;
static struct us_udp_socket_t *udp;

/* New connections and datagrams, and those of the parent's socket. */
static int is_cut_off(void) {
    int port = us_udp_socket_bound_port(udp);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t) port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    us_udp_buffer_set_packet_payload(packets, 0, 0, (void *) (uintptr_t) "from the child", 14, &address);
    int sends = us_udp_socket_send(udp, packets, 1) != -1 || errno != EBADF;
    int receives = us_udp_socket_receive(udp, packets) != -1 || errno != EBADF;
    int binds = us_udp_socket_bind(udp, NULL, 0) != -1;
    int connects = us_socket_context_connect(0, context, "127.0.0.1", port, NULL, 0, 0) != NULL
        || us_socket_context_connect_unix(0, context, path, 0, 0) != NULL;
    return !sends && !receives && !binds && !connects;
}

/* What a callback that forked may still run into on its way out. */
static int be_a_child(struct us_socket_t *s) {
    us_loop_abandon(loop);
    if (!is_cut_off()) return 2;
    int written = us_socket_write(0, s, "from the child", 14, 0);
    int error = us_socket_last_error(s);
    us_socket_write2(0, s, "from", 4, "the child", 9);
    us_socket_read_enabled(s, 0);
    us_socket_shutdown(0, s);
    us_wakeup_loop(loop);
    int stepped = us_loop_step(loop); /* which ends the socket: it can be polled no more */
    struct us_listen_socket_t *ls = us_socket_context_listen(0, context, NULL, 0, 0, 0);
    us_socket_context_close(0, context);
    us_socket_context_free(0, context);
    us_loop_free(loop);
    return written == 0 && error == EBADF && stepped == -EBADF && !ls ? 7 : 1;
}

static void a_child_touches_nothing(void) {
    fixture_open();
    snprintf(path, sizeof path, "/tmp/us-forked-%d", (int) getpid());
    CHECK(us_socket_context_listen_unix(0, context, path, 0, 0) != NULL);
    int fd = client(), status = 0;
    struct us_socket_t *s = seen.last;
    packets = us_create_udp_packet_buffer();
    udp = us_create_udp_socket(loop, packets, NULL, NULL, "127.0.0.1", 0, NULL);
    CHECK(packets && udp);
    pid_t child = fork();
    if (child == 0) _exit(be_a_child(s));
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
    CHECK(access(path, F_OK) == 0);
    CHECK_EQUAL(us_udp_socket_receive(udp, packets), 0);
    us_udp_socket_close(udp);
    us_udp_packet_buffer_free(packets);
    CHECK(send(fd, "hello", 5, MSG_NOSIGNAL) == 5);
    pump(&seen.data_events, 1);
    CHECK_EQUAL(us_socket_write(0, s, "from the parent", 15, 0), 15);
    expect(fd, "from the parent");
    int other = client();
    CHECK(send(other, "hello", 5, MSG_NOSIGNAL) == 5);
    pump(&seen.data_events, 2);
    close(other);
    close(fd);
    fixture_close();
    CHECK(access(path, F_OK) != 0);
}

/* A table of the caller's may be made of anything: it stays. */
static void a_table_of_the_callers_stays(void) {
    struct us_sys_t sys = *us_sys_default();
    fixture_open_on(&sys, "127.0.0.1");
    int fd = client();
    us_loop_abandon(loop);
    CHECK(us_loop_sys(loop) == &sys);
    CHECK_EQUAL(us_socket_write(0, seen.last, "x", 1, 0), 1);
    expect(fd, "x");
    close(fd);
    fixture_close();
}

int main(void) {
    RUN(a_child_touches_nothing);
    RUN(a_table_of_the_callers_stays);
    return check_result();
}
