/* Datagrams: echo in batches, where packets come from and went to, what the kernel
 * is too full for, what cannot be sent, and closing in every callback. */
#include "fixture.h"
#include "faults.h"

#include <netinet/ip.h>

/* Bytes of a DNS message's head, all that the echo looks at. */
enum { HEAD = 12, BATCH = 1024 };

static struct us_udp_packet_buffer_t *packets; /* shared by all, as one a thread is */
static int received, batches, largest, drained, answers;

static struct us_loop_t *open_loop(void) {
    alarm(120);
    received = batches = largest = drained = answers = 0;
    loop = us_create_loop_on(faults_reset(), NULL, NULL, NULL, 0);
    CHECK(loop != NULL);
    if (!loop) exit(1);
    return loop;
}

static void end(void) {
    us_loop_step(loop);
    us_loop_free(loop);
    CHECK_EQUAL(faults.memory, 0);
    CHECK_EQUAL(faults.descriptors, 0);
}

static void count_packets(struct us_udp_socket_t *s, struct us_udp_packet_buffer_t *buf, int count) {
    (void) s, (void) buf;
    batches++;
    received += count;
    if (count > largest) largest = count;
}

static void count_drain(struct us_udp_socket_t *s) {
    (void) s;
    drained++;
}

static struct sockaddr_in to_port(int port) {
    return (struct sockaddr_in) {.sin_family = AF_INET, .sin_port = htons((uint16_t) port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
}

/* A plain descriptor that talks to a port of this machine, and to nobody else. */
static int peer_of(int port) {
    struct sockaddr_in address = to_port(port);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0 && connect(fd, (struct sockaddr *) &address, sizeof address) == 0);
    return fd;
}

static struct us_udp_socket_t *create(void (*data_cb)(struct us_udp_socket_t *, struct us_udp_packet_buffer_t *, int), void *user) {
    struct us_udp_socket_t *s = us_create_udp_socket(loop, packets, data_cb, count_drain, "127.0.0.1", 0, user);
    CHECK(s != NULL);
    if (!s) exit(1);
    return s;
}

static void put(int index, const char *text, int port) {
    struct sockaddr_in address = to_port(port);
    us_udp_buffer_set_packet_payload(packets, index, 0, (void *) (uintptr_t) text, (int) strlen(text), &address);
}

/* ---- Echo, as a name server answers -------------------------------------- */

/* Turns questions into answers where they lie and sends the batch back. */
static void answer(struct us_udp_socket_t *s, struct us_udp_packet_buffer_t *buf, int count) {
    count_packets(s, buf, count);
    for (int i = 0; i < count; i++) {
        char *message = us_udp_packet_buffer_payload(buf, i);
        if (us_udp_packet_buffer_payload_length(buf, i) >= HEAD) message[2] |= (char) 0x80;
    }
    CHECK_EQUAL(us_udp_socket_send(s, buf, count), count);
}

static int question(char *message, int id) {
    static const char name[] = "\7example\3com\0\0\1\0\1";
    memset(message, 0, HEAD);
    message[0] = (char) (id >> 8);
    message[1] = (char) id;
    message[5] = 1;
    memcpy(message + HEAD, name, sizeof name - 1);
    return HEAD + (int) sizeof name - 1;
}

static void check_answers(struct us_udp_socket_t *s, struct us_udp_packet_buffer_t *buf, int count) {
    int *seen_ids = us_udp_socket_user(s);
    for (int i = 0; i < count; i++) {
        char expected[64];
        const char *message = us_udp_packet_buffer_payload(buf, i);
        int id = (unsigned char) message[0] << 8 | (unsigned char) message[1];
        int length = question(expected, id);
        expected[2] |= (char) 0x80;
        CHECK_EQUAL(us_udp_packet_buffer_payload_length(buf, i), length);
        CHECK(memcmp(message, expected, (size_t) length) == 0);
        if (id < BATCH) seen_ids[id]++;
        answers++;
    }
}

static void echoes_in_batches(void) {
    enum { AT_ONCE = 50, ROUNDS = 20 };
    int ids[BATCH] = {0};
    open_loop();
    struct us_udp_socket_t *server = create(answer, NULL), *asker = create(check_answers, ids);
    struct sockaddr_in address = to_port(us_udp_socket_bound_port(server));
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < AT_ONCE; i++) {
            char message[64];
            int length = question(message, round * AT_ONCE + i);
            us_udp_buffer_set_packet_payload(packets, i, 0, message, HEAD, &address);
            us_udp_buffer_set_packet_payload(packets, i, HEAD, message + HEAD, length - HEAD, NULL);
        }
        CHECK_EQUAL(us_udp_socket_send(asker, packets, AT_ONCE), AT_ONCE);
        pump(&answers, (round + 1) * AT_ONCE);
    }
    for (int i = 0; i < ROUNDS * AT_ONCE; i++) CHECK_EQUAL(ids[i], 1);
    CHECK(largest > 1); /* all that waited came at once */
    CHECK_EQUAL(us_loop_sends(loop), ROUNDS + batches);
    us_udp_socket_close(server);
    us_udp_socket_close(asker);
    end();
}

static void receives_a_full_batch_and_the_rest(void) {
    open_loop();
    struct us_udp_socket_t *s = create(NULL, NULL);
    int port = us_udp_socket_bound_port(s), sent = 0, got = 0;
    /* Fill whatever the kernel holds for the socket: more than a batch or not. */
    for (int i = 0; i < BATCH; i++) put(i, "x", port);
    sent += us_udp_socket_send(s, packets, BATCH);
    sent += us_udp_socket_send(s, packets, BATCH);
    CHECK_EQUAL(sent, 2 * BATCH);
    int most = 0;
    for (int n; (n = us_udp_socket_receive(s, packets)) > 0; got += n) {
        if (n > most) most = n;
        CHECK_EQUAL(us_udp_packet_buffer_payload_length(packets, n - 1), 1);
    }
    CHECK(got > 0 && got <= sent && most <= BATCH);
    CHECK(got <= BATCH || most == BATCH);
    CHECK_EQUAL(us_udp_socket_receive(s, packets), 0);
    settle();
    us_udp_socket_close(s);
    end();
}

static void empty_and_largest_packets(void) {
    enum { LARGEST = 65507 };
    static char large[LARGEST + 1];
    open_loop();
    struct us_udp_socket_t *s = create(NULL, NULL);
    struct sockaddr_in address = to_port(us_udp_socket_bound_port(s));
    memset(large, 'y', sizeof large);
    us_udp_buffer_set_packet_payload(packets, 0, 0, NULL, 0, &address);
    us_udp_buffer_set_packet_payload(packets, 1, 0, large, LARGEST, &address);
    CHECK_EQUAL(us_udp_socket_send(s, packets, 2), 2);
    CHECK_EQUAL(us_udp_socket_receive(s, packets), 2);
    CHECK_EQUAL(us_udp_packet_buffer_payload_length(packets, 0), 0);
    CHECK_EQUAL(us_udp_packet_buffer_payload_length(packets, 1), LARGEST);
    CHECK(memcmp(us_udp_packet_buffer_payload(packets, 1), large, LARGEST) == 0);
    us_udp_socket_close(s);
    end();
}

/* ---- Where from and where to --------------------------------------------- */

static void says_where_packets_came_from_and_went(void) {
    char ip[16];
    open_loop();
    struct us_udp_socket_t *s = create(count_packets, &received);
    CHECK(us_udp_socket_user(s) == &received);
    struct sockaddr_in own;
    socklen_t length = sizeof own;
    int fd = peer_of(us_udp_socket_bound_port(s)), ecn = IPTOS_ECN_CE;
    CHECK(getsockname(fd, (struct sockaddr *) &own, &length) == 0);
    CHECK(setsockopt(fd, IPPROTO_IP, IP_TOS, &ecn, sizeof ecn) == 0);
    say(fd, "hello");
    pump(&received, 1);
    CHECK(memcmp(us_udp_packet_buffer_peer(packets, 0), &own, 8) == 0);
    CHECK_EQUAL(us_udp_packet_buffer_local_ip(packets, 0, ip), 4);
    CHECK(memcmp(ip, "\x7f\0\0\1", 4) == 0);
    CHECK_EQUAL(us_udp_packet_buffer_ecn(packets, 0), 3);
    CHECK_EQUAL(us_udp_packet_buffer_payload_length(packets, 0), 5);
    CHECK_EQUAL(us_udp_socket_send(s, packets, 1), 1); /* as it is, back to the peer */
    expect(fd, "hello");
    CHECK_EQUAL(us_udp_packet_buffer_local_ip(packets, 0, ip), 4);
    close(fd);
    us_udp_socket_close(s);
    end();
}

/* Both families on one socket; IPv4 peers are answered as they came. */
static void a_socket_on_all_interfaces_serves_both_families(void) {
    char ip[16];
    open_loop();
    struct us_udp_socket_t *s = us_create_udp_socket(loop, packets, count_packets, NULL, NULL, 0, NULL);
    CHECK(s != NULL);
    int fd = peer_of(us_udp_socket_bound_port(s)), ecn = IPTOS_ECN_ECT0;
    CHECK(setsockopt(fd, IPPROTO_IP, IP_TOS, &ecn, sizeof ecn) == 0);
    say(fd, "four");
    pump(&received, 1);
    CHECK_EQUAL(us_udp_packet_buffer_local_ip(packets, 0, ip), 4);
    CHECK(memcmp(ip, "\x7f\0\0\1", 4) == 0);
    CHECK_EQUAL(us_udp_packet_buffer_ecn(packets, 0), 2);
    CHECK_EQUAL(us_udp_socket_send(s, packets, 1), 1);
    expect(fd, "four");
    close(fd);
    us_udp_socket_close(s);
    end();
}

static void ipv6(void) {
    char ip[16];
    open_loop();
    struct us_udp_socket_t *s = us_create_udp_socket(loop, packets, count_packets, NULL, "::1", 0, NULL);
    if (s) { /* else this machine has none */
        struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_addr = in6addr_loopback};
        address.sin6_port = htons((uint16_t) us_udp_socket_bound_port(s));
        int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0), ecn = IPTOS_ECN_ECT1;
        CHECK(connect(fd, (struct sockaddr *) &address, sizeof address) == 0);
        CHECK(setsockopt(fd, IPPROTO_IPV6, IPV6_TCLASS, &ecn, sizeof ecn) == 0);
        say(fd, "six");
        pump(&received, 1);
        CHECK_EQUAL(us_udp_packet_buffer_local_ip(packets, 0, ip), 16);
        CHECK(memcmp(ip, &in6addr_loopback, 16) == 0);
        CHECK_EQUAL(us_udp_packet_buffer_ecn(packets, 0), 1);
        CHECK_EQUAL(us_udp_socket_send(s, packets, 1), 1);
        expect(fd, "six");
        close(fd);
        us_udp_socket_close(s);
    }
    end();
}

/* ---- Packet buffers ------------------------------------------------------ */

static void a_bad_index_is_nothing(void) {
    static const int bad[] = {-1, BATCH, INT32_MAX, INT32_MIN};
    char ip[16];
    struct sockaddr_in address = to_port(9);
    for (int i = 0; i < 4; i++) {
        CHECK(us_udp_packet_buffer_payload(packets, bad[i]) == NULL);
        CHECK(us_udp_packet_buffer_peer(packets, bad[i]) == NULL);
        CHECK_EQUAL(us_udp_packet_buffer_payload_length(packets, bad[i]), 0);
        CHECK_EQUAL(us_udp_packet_buffer_local_ip(packets, bad[i], ip), 0);
        CHECK_EQUAL(us_udp_packet_buffer_ecn(packets, bad[i]), 0);
        us_udp_buffer_set_packet_payload(packets, bad[i], 0, ip, 1, &address);
    }
}

static int cannot_be_sent(struct us_udp_socket_t *s) {
    errno = 0;
    CHECK_EQUAL(us_udp_socket_send(s, packets, 1), -1);
    return errno;
}

static void what_cannot_be_sent_is_refused(void) {
    static const struct { int offset, length; } bad[] = {{0, 65537}, {-1, 1}, {65536, 1}, {0, -1}, {INT32_MAX, INT32_MAX}, {1, INT32_MAX}};
    char byte = 'x';
    open_loop();
    struct us_udp_socket_t *s = create(NULL, NULL);
    struct sockaddr_in address = to_port(us_udp_socket_bound_port(s));
    struct sockaddr_un local = {.sun_family = AF_UNIX};
    for (int i = 0; i < 6; i++) {
        us_udp_buffer_set_packet_payload(packets, 0, bad[i].offset, &byte, bad[i].length, &address);
        CHECK_EQUAL(cannot_be_sent(s), EMSGSIZE);
        CHECK_EQUAL(us_udp_packet_buffer_payload_length(packets, 0), 0);
    }
    us_udp_buffer_set_packet_payload(packets, 0, 65535, &byte, 1, &address); /* in the buffer, but too large for UDP */
    CHECK_EQUAL(cannot_be_sent(s), EMSGSIZE);
    struct us_udp_packet_buffer_t *fresh = us_create_udp_packet_buffer_on(&faults.sys);
    us_udp_buffer_set_packet_payload(fresh, 0, 0, &byte, 1, &local);
    CHECK(us_udp_socket_send(s, fresh, 1) == -1 && errno == EAFNOSUPPORT);
    us_udp_buffer_set_packet_payload(fresh, 1, 0, &byte, 1, NULL);
    us_udp_buffer_set_packet_payload(fresh, 0, 0, &byte, 1, &address);
    CHECK_EQUAL(us_udp_socket_send(s, fresh, 3), 1); /* up to the one without a peer */
    CHECK_EQUAL(us_udp_socket_send(s, fresh, 0), 0);
    CHECK_EQUAL(us_udp_socket_send(s, fresh, -5), 0);
    pump(&drained, 1);
    CHECK_EQUAL(us_udp_socket_receive(s, fresh), 1);
    CHECK_EQUAL(us_udp_socket_receive(s, fresh), 0);
    CHECK(us_udp_socket_send(s, fresh, 1) == -1 && errno == EINVAL); /* nothing is in it any more */
    us_udp_packet_buffer_free(fresh);
    us_udp_socket_close(s);
    end();
}

/* ---- A full kernel ------------------------------------------------------- */

static void drains_after_a_short_send(void) {
    open_loop();
    struct us_udp_socket_t *s = create(count_packets, NULL);
    int port = us_udp_socket_bound_port(s);
    for (int i = 0; i < 5; i++) put(i, "abc", port);
    fail_next(CALL_SENDMMSG, EAGAIN, 0);
    CHECK_EQUAL(us_udp_socket_send(s, packets, 5), 0);
    fail_nothing();
    faults.message_limit = 2;
    CHECK_EQUAL(us_udp_socket_send(s, packets, 5), 2);
    CHECK_EQUAL(drained, 0);
    pump(&drained, 1);
    pump(&received, 2);
    settle();
    CHECK_EQUAL(drained, 1);
    CHECK_EQUAL(us_loop_sends(loop), 1);
    us_udp_socket_close(s);
    end();
}

static void fill_again(struct us_udp_socket_t *s) {
    if (++drained < 3) CHECK_EQUAL(us_udp_socket_send(s, packets, 5), 2);
}

static void drains_again_when_filled_in_the_callback(void) {
    open_loop();
    struct us_udp_socket_t *s = us_create_udp_socket(loop, packets, NULL, fill_again, "127.0.0.1", 0, NULL);
    for (int i = 0; i < 5; i++) put(i, "abc", us_udp_socket_bound_port(s));
    faults.message_limit = 2;
    CHECK_EQUAL(us_udp_socket_send(s, packets, 5), 2);
    int changes = faults.calls[CALL_EPOLL_CTL];
    pump(&drained, 3);
    settle();
    CHECK_EQUAL(drained, 3);
    CHECK_EQUAL(faults.calls[CALL_EPOLL_CTL], changes + 1);
    us_udp_socket_close(s);
    end();
}

static void errors_of_the_kernel_are_told(void) {
    static const int send_errors[] = {ENOBUFS, ENOMEM, EPERM, ENETUNREACH, EBADF};
    static const int receive_errors[] = {ECONNREFUSED, ENOMEM, EBADF};
    open_loop();
    struct us_udp_socket_t *s = create(count_packets, NULL);
    for (int i = 0; i < 5; i++) {
        put(0, "x", us_udp_socket_bound_port(s));
        fail_next(CALL_SENDMMSG, send_errors[i], 0);
        CHECK_EQUAL(cannot_be_sent(s), send_errors[i]);
    }
    fail_next(CALL_SENDMMSG, EINTR, 3);
    CHECK_EQUAL(us_udp_socket_send(s, packets, 1), 1);
    for (int i = 0; i < 3; i++) {
        fail_next(CALL_RECVMMSG, receive_errors[i], 0);
        CHECK(us_udp_socket_receive(s, packets) == -1 && errno == receive_errors[i]);
    }
    fail_next(CALL_RECVMMSG, EINTR, 3);
    faults.add_events = EPOLLERR; /* is about a packet, and ends nothing */
    pump(&received, 1);
    CHECK_EQUAL(received, 1);
    CHECK_EQUAL(drained, 0);
    us_udp_socket_close(s);
    end();
}

/* The packet that waits is not reported again before the timer has run out. */
static void without_memory_receiving_waits_for_the_timer(void) {
    static const int errors[] = {ENOMEM, ENOBUFS};
    for (int i = 0; i < 2; i++) {
        open_loop();
        faults.virtual_time = 1;
        struct us_udp_socket_t *s = create(count_packets, NULL), *other = create(count_packets, NULL);
        int fd = peer_of(us_udp_socket_bound_port(s)), waits = faults.calls[CALL_EPOLL_WAIT];
        fail_next(CALL_RECVMMSG, errors[i], 1000000);
        say(fd, "x");
        pump(&faults.calls[CALL_RECVMMSG], 5);
        CHECK_EQUAL(faults.armed_ms, 100);
        CHECK_EQUAL(faults.calls[CALL_EPOLL_WAIT] - waits, 9); /* of the packet, the timer, the packet, ... */
        CHECK_EQUAL(received, 0);
        CHECK_EQUAL(us_udp_socket_bind(other, "127.0.0.1", 0), 0); /* moving keeps what is polled for */
        fail_nothing();
        pump(&received, 1);
        say(fd, "y");
        pump(&received, 2);
        close(fd);
        us_udp_socket_close(s);
        us_udp_socket_close(other);
        end();
    }
}

static void a_socket_that_waits_for_the_timer_moves_and_closes(void) {
    open_loop();
    struct us_udp_socket_t *s = create(count_packets, NULL), *closed = create(count_packets, NULL);
    int fds[] = {peer_of(us_udp_socket_bound_port(s)), peer_of(us_udp_socket_bound_port(closed))};
    fail_next(CALL_RECVMMSG, ENOMEM, 1);
    say(fds[0], "x");
    say(fds[1], "x");
    pump(&faults.calls[CALL_RECVMMSG], 2);
    us_udp_socket_close(closed);
    CHECK_EQUAL(us_udp_socket_bind(s, "127.0.0.1", 0), 0); /* there it is looked at at once */
    close(fds[0]);
    fds[0] = peer_of(us_udp_socket_bound_port(s));
    say(fds[0], "y");
    pump(&received, 1);
    close(fds[0]);
    close(fds[1]);
    us_udp_socket_close(s);
    end();
}

static void where_it_is_bound(void) {
    struct sockaddr_in6 found;
    struct sockaddr_in four;
    open_loop();
    struct us_udp_socket_t *s = create(NULL, NULL);
    CHECK_EQUAL(us_udp_socket_local_address(s, &found, sizeof found), sizeof four);
    memcpy(&four, &found, sizeof four);
    CHECK(four.sin_family == AF_INET && four.sin_addr.s_addr == htonl(INADDR_LOOPBACK));
    CHECK_EQUAL(ntohs(four.sin_port), us_udp_socket_bound_port(s));
    CHECK_EQUAL(us_udp_socket_local_address(s, &found, sizeof four - 1), 0);
    CHECK_EQUAL(us_udp_socket_local_address(s, &found, -1), 0);
    fail_next(CALL_GETSOCKNAME, ENOBUFS, 0);
    CHECK_EQUAL(us_udp_socket_local_address(s, &found, sizeof found), 0);
    us_udp_socket_close(s);
    CHECK_EQUAL(us_udp_socket_local_address(s, &found, sizeof found), 0);
    end();
}

/* ---- Life ---------------------------------------------------------------- */

static void creation_fails_whole(void) {
    static const struct { enum call call; int error; } faulty[] = {{CALL_ALLOC, ENOMEM}, {CALL_SOCKET, EMFILE}, {CALL_BIND, EACCES},
        {CALL_GETSOCKNAME, ENOBUFS}, {CALL_EPOLL_CTL, ENOSPC}, {CALL_TIMERFD_CREATE, EMFILE}};
    open_loop();
#ifdef LIBUS_USE_EPOLL
    const int count = 6;
#else
    const int count = 5; /* a timer is no descriptor */
#endif
    for (int i = 0; i < count; i++) {
        fail_next(faulty[i].call, faulty[i].error, 9);
        CHECK(us_create_udp_socket(loop, NULL, count_packets, NULL, "127.0.0.1", 0, NULL) == NULL);
        CHECK_EQUAL(errno, faulty[i].error);
        if (faulty[i].call == CALL_EPOLL_CTL) end(), open_loop(); /* without the timer */
    }
    fail_next(CALL_ALLOC, ENOMEM, 0);
    faults.at = ++faults.until; /* the buffer */
    CHECK(us_create_udp_socket(loop, NULL, count_packets, NULL, "127.0.0.1", 0, NULL) == NULL && errno == ENOMEM);
    fail_nothing();
    CHECK(us_create_udp_socket(loop, NULL, count_packets, NULL, "not an address", 0, NULL) == NULL && errno == EADDRNOTAVAIL);
    struct us_udp_socket_t *s = create(NULL, NULL);
    CHECK(us_create_udp_socket(loop, packets, NULL, NULL, "127.0.0.1", (unsigned short) us_udp_socket_bound_port(s), NULL) == NULL);
    CHECK_EQUAL(errno, EADDRINUSE);
    us_udp_socket_close(s);
    fail_next(CALL_SOCKET, EAFNOSUPPORT, 0); /* no IPv6 here: all interfaces are those of IPv4 */
    s = us_create_udp_socket(loop, packets, count_packets, NULL, NULL, 0, NULL);
    CHECK(s != NULL);
    int fd = peer_of(us_udp_socket_bound_port(s));
    say(fd, "x");
    pump(&received, 1);
    close(fd);
    us_udp_socket_close(s);
    end();
}

static void moves_to_another_address(void) {
    static const enum call faulty[] = {CALL_SOCKET, CALL_BIND, CALL_GETSOCKNAME, CALL_EPOLL_CTL};
    open_loop();
    struct us_udp_socket_t *s = create(count_packets, NULL), *other = create(NULL, NULL);
    int old = us_udp_socket_bound_port(s);
    for (int i = 0; i < 4; i++) {
        fail_next(faulty[i], ENOMEM, 0);
        CHECK(us_udp_socket_bind(s, "127.0.0.1", 0) == -1 && errno == ENOMEM);
        CHECK_EQUAL(us_udp_socket_bound_port(s), old);
    }
    fail_nothing();
    CHECK(us_udp_socket_bind(s, "127.0.0.1", (unsigned) us_udp_socket_bound_port(other)) == -1 && errno == EADDRINUSE);
    CHECK(us_udp_socket_bind(s, "127.0.0.1", 65536) == -1 && errno == EINVAL);
    CHECK(us_udp_socket_bind(s, "127.0.0.1", UINT32_MAX) == -1 && errno == EINVAL);
    int fd = peer_of(old);
    say(fd, "still here");
    pump(&received, 1);
    int before = faults.descriptors;
    put(0, "x", old);
    faults.message_limit = 1;
    CHECK_EQUAL(us_udp_socket_send(s, packets, 2), 1); /* what waits for a drain goes along */
    CHECK_EQUAL(us_udp_socket_bind(s, NULL, 0), 0);
    CHECK(us_udp_socket_bound_port(s) > 0 && us_udp_socket_bound_port(s) != old);
    CHECK_EQUAL(faults.descriptors, before);
    pump(&drained, 1);
    close(fd);
    fd = peer_of(us_udp_socket_bound_port(s));
    received = 0;
    say(fd, "here now");
    pump(&received, 1);
    close(fd);
    us_udp_socket_close(s);
    us_udp_socket_close(other);
    end();
}

static struct us_udp_socket_t *pair[2];

static void close_both(struct us_udp_socket_t *s, struct us_udp_packet_buffer_t *buf, int count) {
    count_packets(s, buf, count);
    char before = *us_udp_packet_buffer_payload(buf, 0);
    for (int i = 0; i < 2; i++) {
        us_udp_socket_close(pair[i]);
        us_udp_socket_close(pair[i]);
    }
    /* The packets stay until the callback returns; the dead bear every call. */
    CHECK_EQUAL(*us_udp_packet_buffer_payload(buf, 0), before);
    CHECK(us_udp_socket_send(s, buf, 1) == -1 && errno == EBADF);
    CHECK(us_udp_socket_receive(s, buf) == -1 && errno == EBADF);
    CHECK(us_udp_socket_bind(s, NULL, 0) == -1 && errno == EBADF);
    CHECK_EQUAL(us_udp_socket_bound_port(s), -1);
    CHECK(us_udp_socket_user(s) == &received);
}

static void close_at_drain(struct us_udp_socket_t *s) {
    close_both(s, packets, 0);
    drained++;
}

/* Both are ready in the same batch; the first that is called closes both. */
static void closing_in_callbacks(void) {
    for (int own_buffer = 0; own_buffer < 2; own_buffer++) {
        for (int draining = 0; draining < 2; draining++) {
            open_loop();
            for (int i = 0; i < 2; i++) {
                pair[i] = us_create_udp_socket(loop, own_buffer ? NULL : packets, close_both, close_at_drain, "127.0.0.1", 0, &received);
                CHECK(pair[i] != NULL);
            }
            faults.message_limit = 1;
            for (int i = 0; i < 2; i++) {
                put(0, "x", us_udp_socket_bound_port(pair[i]));
                put(1, "y", us_udp_socket_bound_port(pair[i]));
                CHECK_EQUAL(us_udp_socket_send(pair[1 - i], packets, draining ? 2 : 1), 1);
            }
            pump(&batches, 1);
            settle();
            CHECK_EQUAL(batches, 1);
            CHECK(drained == draining || !ALL_IN_ONE_EVENT);
            end();
        }
    }
}

static void closes_with_the_loop(void) {
    open_loop();
    create(count_packets, NULL);
    CHECK(us_create_udp_socket(loop, NULL, count_packets, NULL, "127.0.0.1", 0, NULL) != NULL);
    end();
}

static void close_and_count(struct us_udp_socket_t *s, struct us_udp_packet_buffer_t *buf, int count) {
    count_packets(s, buf, count);
    us_udp_socket_close(s);
}

static void keeps_the_loop_running(void) {
    open_loop();
    struct us_udp_socket_t *s = create(close_and_count, NULL);
    put(0, "x", us_udp_socket_bound_port(s));
    CHECK_EQUAL(us_udp_socket_send(s, packets, 1), 1);
    us_loop_run(loop);
    CHECK_EQUAL(received, 1);
    end();
}

int main(void) {
    packets = us_create_udp_packet_buffer();
    if (!packets) return 1;
    RUN(echoes_in_batches);
    RUN(receives_a_full_batch_and_the_rest);
    RUN(empty_and_largest_packets);
    RUN(says_where_packets_came_from_and_went);
    RUN(a_socket_on_all_interfaces_serves_both_families);
    RUN(ipv6);
    RUN(a_bad_index_is_nothing);
    RUN(what_cannot_be_sent_is_refused);
    RUN(drains_after_a_short_send);
    RUN(drains_again_when_filled_in_the_callback);
    RUN(errors_of_the_kernel_are_told);
    RUN(without_memory_receiving_waits_for_the_timer);
    RUN(a_socket_that_waits_for_the_timer_moves_and_closes);
    RUN(where_it_is_bound);
    RUN(creation_fails_whole);
    RUN(moves_to_another_address);
    RUN(closing_in_callbacks);
    RUN(closes_with_the_loop);
    RUN(keeps_the_loop_running);
    us_udp_packet_buffer_free(packets);
    return check_result();
}
