/* A server in C alone: it links the library, and its routes are functions. */
#include <corkbind.h>

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

static volatile sig_atomic_t stopping;
static int step_due;

static void stop(int number)
{
    (void) number;
    stopping = 1;
}

static void deferred(void)
{
    step_due = 1;
}

static void hello(uint32_t exchange, void *user)
{
    const char *name;
    int length = ck_parameter_value(exchange, 0, &name);
    ck_header(exchange, "Content-Type", 12, "text/plain", 10);
    ck_write(exchange, user, (int) strlen(user));
    ck_end(exchange, name, length, 0);
}

static void got_body(uint32_t exchange, int event, void *user)
{
    const char *body;
    int64_t length = ck_body_value(exchange, &body);
    (void) user;
    if (event == CK_BODY_COMPLETE) {
        ck_end_large(exchange, body, (size_t) length, 0);
    }
    ck_release(exchange);
}

static const ck_follower echoing = {.body = got_body};

static void echo(uint32_t exchange, void *user)
{
    if (ck_keep(exchange) == CK_OK && ck_follow(exchange, &echoing, user) == CK_OK && ck_body_ask(exchange, CK_BODY_COLLECT) == 1) {
        got_body(exchange, CK_BODY_COMPLETE, user);
    }
}

int main(void)
{
    const ck_callbacks callbacks = {.deferred = deferred};
    const ck_limits limits = {.body = 1 << 20, .backlog = 1 << 24, .line = 8192, .head = 32768, .field = 16384,
        .fields = 100, .pipeline = 65536, .window = 65536, .head_seconds = 10, .idle_seconds = 10,
        .body_seconds = 10, .handler_seconds = 60, .rate = 240};
    char greeting[] = "Hello, ";
    int error = 0;
    signal(SIGTERM, stop);
    if (ck_abi_version() != CK_ABI_VERSION || ck_loop_open(&callbacks) != 0) {
        return 1;
    }
    uint32_t app = ck_app_create(&limits);
    if (ck_app_route_native(app, ck_method_id("GET", 3), "/hello/:name", 12, hello, greeting, -1) != 0
        || ck_app_route_native(app, ck_method_id("POST", 4), "/echo", 5, echo, NULL, -1) != 0) {
        return 1;
    }
    uint32_t listener = ck_app_listen(app, "127.0.0.1", 0, 0, &error);
    if (!listener) {
        return 1;
    }
    printf("http://127.0.0.1:%d\n", ck_listener_port(listener));
    fflush(stdout);
    struct pollfd ready = {.fd = ck_loop_fd(), .events = POLLIN};
    while (!stopping) {
        poll(&ready, 1, step_due ? 0 : -1);
        step_due = 0;
        ck_loop_step();
    }
    ck_app_destroy(app);
    return ck_loop_close();
}
