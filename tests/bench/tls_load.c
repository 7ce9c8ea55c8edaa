/* Makes TLS handshakes with a server, each on a connection of its own, and counts them.
 *
 * A number of connections is in the making at once. Each makes a full handshake (no
 * session is kept), asks for "/" once, and is closed when the answer has begun, so that
 * what is counted has come to be of use. The server's certificate is not judged, but its
 * signature is checked as in every handshake. It prints what load.lua prints, the times
 * from connecting to the answer, and `busy`: its own CPU time as a share of the time. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MOST_CONNECTIONS = 1024, MOST_TIMES = 1 << 20, PATIENCE = 10 };

typedef struct {
    int fd;
    SSL *ssl;
    uint32_t events;
    int asked;
    uint64_t begun;
} attempt;

static const char REQUEST[] = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
static const char ANSWER[] = "HTTP/1.1 200 ";

static attempt attempts[MOST_CONNECTIONS];
static SSL_CTX *tls;
static int epoll;
static uint16_t port;
static uint32_t *times;
static size_t done;

static void fail(const char *what)
{
    fprintf(stderr, "tls_load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t clock_of(clockid_t clock)
{
    struct timespec time;
    clock_gettime(clock, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static void begin(attempt *a)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct linger reset = {.l_onoff = 1}; /* else the ports would run out */
    int on = 1;
    a->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (a->fd < 0 || (connect(a->fd, (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS))
        fail("connect");
    setsockopt(a->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    setsockopt(a->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    a->ssl = SSL_new(tls);
    if (!a->ssl || !SSL_set_fd(a->ssl, a->fd))
        fail("OpenSSL makes no connection");
    SSL_set_connect_state(a->ssl);
    a->asked = 0;
    a->begun = clock_of(CLOCK_MONOTONIC);
    a->events = EPOLLOUT;
    struct epoll_event event = {.events = EPOLLOUT, .data.ptr = a};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, a->fd, &event))
        fail("epoll_ctl");
}

static void end(attempt *a)
{
    SSL_free(a->ssl);
    close(a->fd);
}

/* Polls for what OpenSSL waits for. */
static void wait_for(attempt *a, int result)
{
    int error = SSL_get_error(a->ssl, result);
    uint32_t events = error == SSL_ERROR_WANT_WRITE ? EPOLLOUT : EPOLLIN;
    if (error != SSL_ERROR_WANT_WRITE && error != SSL_ERROR_WANT_READ)
        fail("the server does not speak TLS, or broke off");
    if (events == a->events)
        return;
    struct epoll_event event = {.events = events, .data.ptr = a};
    if (epoll_ctl(epoll, EPOLL_CTL_MOD, a->fd, &event))
        fail("epoll_ctl");
    a->events = events;
}

/* Returns 1 when the answer is there. */
static int go_on(attempt *a)
{
    int result;
    if (!a->asked) {
        if ((result = SSL_connect(a->ssl)) != 1) {
            wait_for(a, result);
            return 0;
        }
        if (SSL_session_reused(a->ssl) || SSL_write(a->ssl, REQUEST, sizeof REQUEST - 1) != sizeof REQUEST - 1)
            fail("the request could not be sent over a fresh session");
        a->asked = 1;
    }
    char answer[4096];
    if ((result = SSL_read(a->ssl, answer, sizeof answer)) <= 0) {
        wait_for(a, result);
        return 0;
    }
    if ((size_t)result < sizeof ANSWER || memcmp(answer, ANSWER, sizeof ANSWER - 1))
        fail("the server did not answer 200");
    return 1;
}

static int by_size(const void *one, const void *other)
{
    uint32_t a = *(const uint32_t *)one, b = *(const uint32_t *)other;
    return (a > b) - (a < b);
}

static double percentile(size_t percent)
{
    size_t kept = done < MOST_TIMES ? done : MOST_TIMES;
    return kept ? times[kept * percent / 100] / 1e3 : 0;
}

static void report(double seconds, double used)
{
    qsort(times, done < MOST_TIMES ? done : MOST_TIMES, sizeof *times, by_size);
    printf("RESULT {\"requests\": %zu, \"seconds\": %.6f, \"failed\": 0, \"p50\": %.1f, \"p99\": %.1f, \"busy\": %.3f}\n", done,
           seconds, percentile(50), percentile(99), used / seconds);
}

static void run(unsigned connections, double seconds)
{
    uint64_t begun = clock_of(CLOCK_MONOTONIC), used = clock_of(CLOCK_PROCESS_CPUTIME_ID);
    uint64_t until = begun + (uint64_t)(seconds * 1e9), now = begun;
    for (unsigned i = 0; i < connections; i++)
        begin(attempts + i);
    unsigned open = connections;
    while (open) {
        struct epoll_event events[64];
        int count = epoll_wait(epoll, events, 64, PATIENCE * 1000);
        if (count <= 0 && (count == 0 || errno != EINTR))
            fail("nothing happens");
        for (int i = 0; i < count; i++) {
            attempt *a = events[i].data.ptr;
            if (!go_on(a))
                continue;
            now = clock_of(CLOCK_MONOTONIC);
            times[done++ % MOST_TIMES] = (uint32_t)(now - a->begun);
            end(a);
            if (now < until)
                begin(a);
            else
                open--;
        }
    }
    report((double)(now - begun) / 1e9, (double)(clock_of(CLOCK_PROCESS_CPUTIME_ID) - used) / 1e9);
}

int main(int count, char **values)
{
    long connections = count == 4 ? atol(values[2]) : 0;
    if (connections < 1 || connections > MOST_CONNECTIONS) {
        fprintf(stderr, "usage: tls_load PORT CONNECTIONS SECONDS\n");
        return 2;
    }
    port = (uint16_t)atol(values[1]);
    tls = SSL_CTX_new(TLS_client_method());
    times = calloc(MOST_TIMES, sizeof *times);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    if (!tls || !times || epoll < 0)
        fail("start");
    SSL_CTX_set_session_cache_mode(tls, SSL_SESS_CACHE_OFF);
    signal(SIGPIPE, SIG_IGN);
    run((unsigned)connections, atof(values[3]));
    return 0;
}
