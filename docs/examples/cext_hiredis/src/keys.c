/* The routes, what waits for Redis, and the connection to it.
 *
 * A request is kept until Redis answers, and its answer is written by hiredis's callback, on
 * the app's loop: status, fields and body leave in one send. A client that goes meanwhile
 * leaves the record of its request behind, for the reply that will come. While there is no
 * Redis every request gets 503 at once, and a timer tries to connect again. */
#include "keys.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "redis_loop.h"

enum { WAITING_MAX = 10000, RETRY_FIRST_MS = 50, RETRY_LAST_MS = 2000 };

typedef struct service {
    struct us_loop_t *loop;
    struct us_timer_t *timer;
    redisAsyncContext *redis; /* NULL while there is none */
    bool ready;               /* it may be asked */
    bool over;                /* the app has ended */
    int retry_ms;
    char address[];
} service;

typedef void answerer(uint32_t exchange, const redisReply *reply);

typedef struct request {
    service *service;
    uint32_t exchange; /* 0: its client has gone */
    answerer *answer;
} request;

const ck_api *ck;
static struct keys_stats counted;

struct keys_stats keys_counted(void)
{
    return counted;
}

/* ---- Answers ---- */

static void plain(uint32_t exchange, int status, const char *text)
{
    ck->ck_send(exchange, status, "text/plain", 10, text, (int) strlen(text), 0);
}

static void no_redis(uint32_t exchange)
{
    ck->ck_status(exchange, 503);
    ck->ck_header(exchange, "Retry-After", 11, "1", 1);
    plain(exchange, 0, "Redis is away\n");
}

static void answer_get(uint32_t exchange, const redisReply *reply)
{
    if (reply->type != REDIS_REPLY_STRING) {
        plain(exchange, 404, "no such key\n");
        return;
    }
    ck->ck_status(exchange, 200);
    ck->ck_header(exchange, "Content-Type", 12, "application/octet-stream", 24);
    ck->ck_header(exchange, "Cache-Control", 13, "no-store", 8);
    ck->ck_end_large(exchange, reply->str, (size_t) reply->len, 0);
}

static void answer_put(uint32_t exchange, const redisReply *reply)
{
    (void) reply;
    ck->ck_status(exchange, 204);
    ck->ck_end(exchange, "", 0, 0);
}

static void answer_count(uint32_t exchange, const redisReply *reply)
{
    char text[32];
    int length = snprintf(text, sizeof(text), "%lld\n", reply->integer);
    ck->ck_send(exchange, 200, "text/plain", 10, text, length, 0);
}

/* ---- Requests that wait ---- */

static void done(request *r)
{
    if (r->exchange) {
        ck->ck_release(r->exchange);
    }
    counted.waiting--;
    free(r);
}

static void on_aborted(uint32_t exchange, int reason, void *user)
{
    request *r = user;
    (void) reason;
    r->exchange = 0; /* the reply finds nobody */
    ck->ck_release(exchange);
}

static void on_reply(redisAsyncContext *redis, void *replied, void *user)
{
    request *r = user;
    const redisReply *reply = replied; /* NULL: the connection is gone */
    (void) redis;
    counted.unanswered += !reply;
    if (r->exchange) {
        if (!reply) {
            no_redis(r->exchange);
        } else if (reply->type == REDIS_REPLY_ERROR) {
            plain(r->exchange, 502, reply->str);
        } else {
            r->answer(r->exchange, reply);
        }
    }
    done(r);
}

/* Sends a command; on_reply follows. */
static void ask(request *r, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    bool asked = r->service->ready && redisvAsyncCommand(r->service->redis, on_reply, r, format, arguments) == REDIS_OK;
    va_end(arguments);
    counted.asked += asked;
    if (!asked) {
        no_redis(r->exchange);
        done(r);
    }
}

static int name_of(const request *r, const char **name)
{
    return ck->ck_parameter_value(r->exchange, 0, name);
}

static void put(request *r)
{
    const char *name, *body;
    int length = name_of(r, &name);
    int64_t size = ck->ck_body_value(r->exchange, &body);
    ask(r, "SET %b %b", name, (size_t) length, body, (size_t) size);
}

static void on_body(uint32_t exchange, int event, void *user)
{
    (void) exchange;
    if (event == CK_BODY_COMPLETE) {
        put(user);
    } else {
        done(user);
    }
}

static const ck_follower follower = {.aborted = on_aborted, .body = on_body};

/* Keeps a request until Redis answers it. Returns NULL when it has been answered already. */
static request *begin(uint32_t exchange, service *s, answerer *answer)
{
    request *r = s->ready && counted.waiting < WAITING_MAX ? malloc(sizeof(*r)) : NULL;
    if (!r || ck->ck_keep(exchange) != CK_OK) {
        free(r);
        no_redis(exchange);
        return NULL;
    }
    *r = (request) {s, exchange, answer};
    ck->ck_follow(exchange, &follower, r);
    counted.waiting++;
    return r;
}

/* ---- Handlers ---- */

static void on_get(uint32_t exchange, void *user)
{
    const char *name;
    request *r = begin(exchange, user, answer_get);
    if (r) {
        int length = name_of(r, &name);
        ask(r, "GET %b", name, (size_t) length);
    }
}

static void on_put(uint32_t exchange, void *user)
{
    request *r = begin(exchange, user, answer_put);
    if (r) {
        int there = ck->ck_body_ask(exchange, CK_BODY_COLLECT);
        if (there == 1) {
            put(r);
        } else if (there < 0) {
            done(r);
        }
    }
}

static void on_count(uint32_t exchange, void *user)
{
    const char *name;
    request *r = begin(exchange, user, answer_count);
    if (r) {
        int length = name_of(r, &name);
        ask(r, "INCR %b", name, (size_t) length);
    }
}

/* ---- The connection to Redis ---- */

static void on_retry(struct us_timer_t *timer);

static void gone(service *s)
{
    counted.connected -= s->ready;
    s->redis = NULL;
    s->ready = false;
    if (!s->over) {
        ck->us_timer_set(s->timer, on_retry, s->retry_ms, 0);
        s->retry_ms = s->retry_ms * 2 < RETRY_LAST_MS ? s->retry_ms * 2 : RETRY_LAST_MS;
    }
}

static void on_connect(const redisAsyncContext *redis, int status)
{
    service *s = redis->data;
    if (status != REDIS_OK) { /* hiredis frees it */
        gone(s);
        return;
    }
    s->ready = true;
    s->retry_ms = RETRY_FIRST_MS;
    counted.connected++;
    counted.connects++;
}

/* Those who waited have been told by then, each by on_reply. */
static void on_disconnect(const redisAsyncContext *redis, int status)
{
    (void) status;
    gone(redis->data);
}

static redisAsyncContext *dial(const char *address)
{
    char host[256];
    const char *colon = strrchr(address, ':');
    if (address[0] == '/' || !colon) {
        return redisAsyncConnectUnix(address);
    }
    snprintf(host, sizeof(host), "%.*s", (int) (colon - address), address);
    return redisAsyncConnect(host, atoi(colon + 1));
}

static void connect_redis(service *s)
{
    s->redis = dial(s->address);
    if (!s->redis || s->redis->err || redis_loop_attach(s->loop, s->redis) != REDIS_OK) {
        if (s->redis) {
            redisAsyncFree(s->redis);
        }
        gone(s);
        return;
    }
    s->redis->data = s;
    redisAsyncSetConnectCallback(s->redis, on_connect);
    redisAsyncSetDisconnectCallback(s->redis, on_disconnect);
}

static void on_retry(struct us_timer_t *timer)
{
    connect_redis(*(service **) ck->us_timer_ext(timer));
}

/* ---- The life of it all ---- */

static void on_end(void *user)
{
    service *s = user;
    s->over = true;
    if (s->redis) {
        redisAsyncFree(s->redis); /* on_reply for each that waits, then on_disconnect */
    }
    ck->us_timer_close(s->timer);
    free(s);
}

static int add_routes(uint32_t app, service *s)
{
    static const struct {
        const char *method, *pattern;
        void (*handler)(uint32_t exchange, void *user);
    } routes[] = {{"GET", "/key/:name", on_get}, {"PUT", "/key/:name", on_put}, {"POST", "/count/:name", on_count}};
    for (size_t i = 0; i < sizeof(routes) / sizeof(*routes); i++) {
        int method = ck->ck_method_id(routes[i].method, strlen(routes[i].method));
        const char *pattern = routes[i].pattern;
        int result = ck->ck_app_route_native(app, method, pattern, strlen(pattern), routes[i].handler, s, -1);
        if (result != 0) {
            return result;
        }
    }
    return CK_OK;
}

int keys_serve(uint32_t app, const char *address)
{
    int error;
    struct us_loop_t *loop = ck->ck_app_loop(app, &error);
    if (!loop) {
        return error;
    }
    service *s = calloc(1, sizeof(*s) + strlen(address) + 1);
    struct us_timer_t *timer = s ? ck->us_create_timer(loop, 1, sizeof(s)) : NULL;
    if (!timer || ck->ck_app_on_destroy(app, on_end, s) != CK_OK) {
        if (timer) {
            ck->us_timer_close(timer);
        }
        free(s);
        return CK_NOMEM;
    }
    s->loop = loop;
    s->timer = timer;
    s->retry_ms = RETRY_FIRST_MS;
    strcpy(s->address, address);
    *(service **) ck->us_timer_ext(timer) = s;
    connect_redis(s);
    return add_routes(app, s);
}
