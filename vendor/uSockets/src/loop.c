/* The loop: iterations, wakeups, the sweep, and the end of what has died.
 *
 * One iteration, in order:
 *   1. the pre callback;
 *   2. the wait (up to 1024 ready polls, none waited for by us_loop_step);
 *   3. each ready poll is dispatched by its type; timers and the wakeup are polls
 *      like the others;
 *   4. sockets that the kernel refused to poll are closed;
 *   5. the post callback;
 *   6. the memory of all that died since the last time is released.
 *
 * Nothing is released anywhere else, and an iteration never runs inside another
 * one, inside a sweep, or inside a callback that runs between iterations. So a pointer that a callback was given stays good until
 * it returns, whatever it and the functions it calls have closed. */
#include "tls.h"

#include <errno.h>
#include <string.h>

#define GRANULES_PER_MINUTE (60 / LIBUS_TIMEOUT_GRANULARITY)

/* Allocates an object with a tail of ext, all zero. NULL and ENOMEM on failure. */
void *us_internal_alloc(struct us_loop_t *loop, size_t size, size_t ext_size) {
    void *memory = ext_size <= SIZE_MAX - size ? loop->sys->alloc(loop->sys, size + ext_size) : NULL;
    if (memory) memset(memory, 0, size + ext_size);
    else errno = ENOMEM;
    return memory;
}

void us_internal_bury(struct us_loop_t *loop, struct us_poll_t *p) {
    p->flags |= POLL_DEAD;
    p->next_dead = loop->dead_polls;
    loop->dead_polls = p;
}

static void release_dead(struct us_loop_t *loop) {
    struct us_sys_t *sys = loop->sys;
    while (loop->dead_polls) {
        struct us_poll_t *p = loop->dead_polls;
        loop->dead_polls = p->next_dead;
        if (p->type == POLL_SOCKET) us_internal_tls_free(loop, ((struct us_socket_t *) p)->tls);
        sys->release(sys, p);
    }
    while (loop->dead_contexts) {
        struct us_socket_context_t *context = loop->dead_contexts;
        loop->dead_contexts = context->next_dead;
        us_internal_tls_context_release(loop, context->tls);
        sys->release(sys, context);
    }
}

/* ---- Wakeup -------------------------------------------------------------- */

void us_wakeup_loop(struct us_loop_t *loop) {
    int error = errno; /* the caller may be a signal handler */
    us_internal_wakeup_send(loop, 0);
    errno = error;
}

/* Makes an iteration come soon, without a wakeup callback. */
void us_internal_kick(struct us_loop_t *loop) {
    int error = errno;
    us_internal_wakeup_send(loop, 1);
    errno = error;
}

static void wakeup_ready(struct us_loop_t *loop) {
    if (us_internal_wakeup_take(loop) && loop->wakeup_cb) loop->wakeup_cb(loop);
}

/* ---- Iteration ----------------------------------------------------------- */

void us_internal_dispatch(struct us_loop_t *loop, struct us_poll_t *p, int error, int events) {
    if (p->flags & POLL_DEAD) return;
    events &= p->events; /* an earlier callback of the batch may have lost interest */
    switch ((enum us_internal_poll_type) p->type) {
    case POLL_SOCKET: us_internal_socket_ready((struct us_socket_t *) p, error, events); break;
    case POLL_LISTEN: us_internal_listener_ready((struct us_listen_socket_t *) p); break;
    case POLL_TIMER: us_internal_timer_ready((struct us_timer_t *) p); break;
    case POLL_WAKEUP: wakeup_ready(loop); break;
    case POLL_UDP: us_internal_udp_ready((struct us_udp_socket_t *) p, error, events); break;
    case POLL_USER: us_internal_user_poll_ready(p, error, events); break;
    }
}

static int iterate(struct us_loop_t *loop, int timeout_ms) {
    loop->busy = 1;
    loop->iteration++;
    if (loop->pre_cb) loop->pre_cb(loop);
    int count = us_internal_poller_dispatch(loop, timeout_ms);
    if (loop->broken) {
        loop->broken = 0;
        us_internal_visit_sockets(loop, us_internal_socket_reap);
    }
    if (loop->post_cb) loop->post_cb(loop);
    release_dead(loop);
    loop->busy = 0;
    if (loop->broken) us_internal_kick(loop); /* broken by the callbacks since */
    return count;
}

static int is_entered(const struct us_loop_t *loop) {
    return loop->busy || loop->visiting || loop->calling;
}

int us_loop_step(struct us_loop_t *loop) {
    return is_entered(loop) ? -EBUSY : iterate(loop, 0);
}

void us_loop_run(struct us_loop_t *loop) {
    if (is_entered(loop)) return;
    us_loop_integrate(loop);
    while (loop->alive > 0 && iterate(loop, -1) >= 0) continue;
}

/* ---- Sweep --------------------------------------------------------------- */

void us_loop_sweep(struct us_loop_t *loop) {
    if (loop->visiting) return;
    loop->sweeps = (loop->sweeps + 1) & 0x7fff;
    loop->tick = (uint8_t) ((loop->tick + 1) % TIMEOUT_CLOCK);
    if (++loop->granule == GRANULES_PER_MINUTE) {
        loop->granule = 0;
        loop->long_tick = (uint8_t) ((loop->long_tick + 1) % TIMEOUT_CLOCK);
    }
    us_internal_visit_sockets(loop, us_internal_socket_sweep);
}

static void sweep_timer_ran_out(struct us_timer_t *timer) {
    us_loop_sweep(us_timer_loop(timer));
}

void us_loop_integrate(struct us_loop_t *loop) {
    const int ms = LIBUS_TIMEOUT_GRANULARITY * 1000;
    if (loop->swept_by_timer) return;
    loop->swept_by_timer = us_internal_timer_arm(loop->sweep_timer, sweep_timer_ran_out, ms, ms) == 0;
}

/* ---- Life ---------------------------------------------------------------- */

static int create_recv_buffer(struct us_loop_t *loop) {
    loop->recv_memory = loop->sys->alloc(loop->sys, LIBUS_RECV_BUFFER_LENGTH + 2 * LIBUS_RECV_BUFFER_PADDING);
    if (!loop->recv_memory) {
        errno = ENOMEM;
        return -1;
    }
    loop->recv_buffer = loop->recv_memory + LIBUS_RECV_BUFFER_PADDING;
    return 0;
}

/* Also takes down a loop that was built only in part. */
static void destroy(struct us_loop_t *loop) {
    struct us_sys_t *sys = loop->sys;
    while (loop->udp_sockets) us_udp_socket_close(loop->udp_sockets);
    if (loop->retry_timer) us_timer_close(loop->retry_timer);
    if (loop->sweep_timer) us_timer_close(loop->sweep_timer);
    us_internal_wakeup_shut(loop);
    if (loop->spare_fd >= 0) sys->close(sys, loop->spare_fd);
    release_dead(loop);
    us_internal_poller_free(loop);
    us_internal_tls_loop_free(loop);
    if (loop->recv_memory) sys->release(sys, loop->recv_memory);
    sys->release(sys, loop);
}

struct us_loop_t *us_create_loop_on(struct us_sys_t *sys, void (*wakeup_cb)(struct us_loop_t *loop),
    void (*pre_cb)(struct us_loop_t *loop), void (*post_cb)(struct us_loop_t *loop), unsigned int ext_size) {
    struct us_loop_t *loop = sys->alloc(sys, sizeof *loop + ext_size);
    if (!loop) {
        errno = ENOMEM;
        return NULL;
    }
    memset(loop, 0, sizeof *loop + ext_size);
    loop->sys = sys;
    loop->wakeup_cb = wakeup_cb;
    loop->pre_cb = pre_cb;
    loop->post_cb = post_cb;
    loop->poller = loop->wakeup.fd = loop->spare_fd = -1;
    if (us_internal_poller_create(loop) || create_recv_buffer(loop) || us_internal_wakeup_open(loop)) goto fail;
    if (!(loop->sweep_timer = us_create_timer(loop, 1, 0))) goto fail;
    if ((loop->spare_fd = sys->open_spare(sys)) < 0) goto fail;
    return loop;

fail:;
    int error = errno;
    destroy(loop);
    errno = error;
    return NULL;
}

struct us_loop_t *us_create_loop(void *hint, void (*wakeup_cb)(struct us_loop_t *loop),
    void (*pre_cb)(struct us_loop_t *loop), void (*post_cb)(struct us_loop_t *loop), unsigned int ext_size) {
    (void) hint;
    return us_create_loop_on(us_sys_default(), wakeup_cb, pre_cb, post_cb, ext_size);
}

void us_loop_free(struct us_loop_t *loop) {
    if (!is_entered(loop)) destroy(loop);
}

void us_loop_abandon(struct us_loop_t *loop) {
    if (loop->sys == us_sys_default()) loop->sys = us_internal_sys_without_descriptors();
}

void *us_loop_ext(struct us_loop_t *loop) {
    return loop + 1;
}

struct us_sys_t *us_loop_sys(struct us_loop_t *loop) {
    return loop->sys;
}

int us_loop_alive(struct us_loop_t *loop) {
    return loop->alive;
}

int us_loop_fd(struct us_loop_t *loop) {
    return loop->poller;
}

long long us_loop_iteration_number(struct us_loop_t *loop) {
    return loop->iteration;
}

long long us_loop_tls_records(struct us_loop_t *loop) {
    return loop->tls_records;
}

long long us_loop_sends(struct us_loop_t *loop) {
    return loop->sends;
}
