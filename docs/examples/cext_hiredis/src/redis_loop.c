/* The adapter: hiredis says what it waits for, a poll of the loop says when it is there.
 *
 * The poll is freed when hiredis lets go of the connection, which may be inside its own
 * callback: its memory stays until the end of the iteration, so `redis` can be looked at. */
#include "redis_loop.h"

struct watch {
    struct us_loop_t *loop;
    redisAsyncContext *redis; /* NULL: it is gone */
};

static struct watch *watch_of(struct us_poll_t *poll)
{
    return ck->us_poll_ext(poll);
}

static void on_ready(struct us_poll_t *poll, int error, int events)
{
    struct watch *watch = watch_of(poll);
    if (watch->redis && (error || events & LIBUS_SOCKET_READABLE)) {
        redisAsyncHandleRead(watch->redis);
    }
    if (watch->redis && events & LIBUS_SOCKET_WRITABLE) {
        redisAsyncHandleWrite(watch->redis);
    }
}

static void wait_for(void *data, int more, int less)
{
    struct us_poll_t *poll = data;
    int events = (ck->us_poll_events(poll) | more) & ~less;
    ck->us_poll_change(poll, watch_of(poll)->loop, events);
}

static void add_read(void *data)
{
    wait_for(data, LIBUS_SOCKET_READABLE, 0);
}

static void del_read(void *data)
{
    wait_for(data, 0, LIBUS_SOCKET_READABLE);
}

static void add_write(void *data)
{
    wait_for(data, LIBUS_SOCKET_WRITABLE, 0);
}

static void del_write(void *data)
{
    wait_for(data, 0, LIBUS_SOCKET_WRITABLE);
}

static void cleanup(void *data)
{
    struct watch *watch = watch_of(data);
    watch->redis = NULL;
    ck->us_poll_free(data, watch->loop); /* before hiredis closes the descriptor */
}

int redis_loop_attach(struct us_loop_t *loop, redisAsyncContext *redis)
{
    struct us_poll_t *poll = ck->us_create_poll(loop, 1, sizeof(struct watch));
    if (!poll) {
        return REDIS_ERR;
    }
    *watch_of(poll) = (struct watch) {loop, redis};
    ck->us_poll_init(poll, redis->c.fd, 0);
    ck->us_poll_on_ready(poll, on_ready);
    ck->us_poll_start(poll, loop, LIBUS_SOCKET_READABLE);
    if (ck->us_poll_events(poll) != LIBUS_SOCKET_READABLE) {
        ck->us_poll_free(poll, loop);
        return REDIS_ERR;
    }
    redis->ev.data = poll;
    redis->ev.addRead = add_read;
    redis->ev.delRead = del_read;
    redis->ev.addWrite = add_write;
    redis->ev.delWrite = del_write;
    redis->ev.cleanup = cleanup;
    return REDIS_OK;
}
