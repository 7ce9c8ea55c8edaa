/* Precise timers: one timerfd each, on the monotonic clock. */
#include "internal.h"

#include <errno.h>
#include <sys/timerfd.h>
#include <time.h>

struct us_timer_t *us_create_timer(struct us_loop_t *loop, int fallthrough, unsigned int ext_size) {
    struct us_sys_t *sys = loop->sys;
    struct us_timer_t *timer = us_internal_alloc(loop, sizeof *timer, ext_size);
    if (!timer) return NULL;
    int fd = sys->timerfd_create(sys, CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (fd < 0) goto fail;
    us_internal_poll_init(&timer->p, fd, POLL_TIMER, fallthrough ? POLL_FALLTHROUGH : 0);
    timer->loop = loop;
    if (us_internal_poll_start(loop, &timer->p, LIBUS_SOCKET_READABLE)) goto fail;
    if (!fallthrough) loop->alive++;
    return timer;

fail:;
    int error = errno;
    if (fd >= 0) sys->close(sys, fd);
    sys->release(sys, timer);
    errno = error;
    return NULL;
}

void *us_timer_ext(struct us_timer_t *timer) {
    return timer + 1;
}

struct us_loop_t *us_timer_loop(struct us_timer_t *t) {
    return t->loop;
}

void us_timer_close(struct us_timer_t *timer) {
    struct us_loop_t *loop = timer->loop;
    if (timer->p.flags & POLL_DEAD) return;
    us_internal_poll_stop(loop, &timer->p);
    loop->sys->close(loop->sys, timer->p.fd);
    timer->p.fd = -1;
    if (!(timer->p.flags & POLL_FALLTHROUGH)) loop->alive--;
    us_internal_bury(loop, &timer->p);
}

/* Returns 0, or -1 and errno. */
int us_internal_timer_arm(struct us_timer_t *timer, void (*cb)(struct us_timer_t *t), int ms, int repeat_ms) {
    struct us_sys_t *sys = timer->loop->sys;
    timer->cb = cb;
    return sys->timerfd_settime(sys, timer->p.fd, ms < 0 ? 0 : ms, repeat_ms < 0 ? 0 : repeat_ms);
}

void us_timer_set(struct us_timer_t *timer, void (*cb)(struct us_timer_t *t), int ms, int repeat_ms) {
    if (!(timer->p.flags & POLL_DEAD)) (void) us_internal_timer_arm(timer, cb, ms, repeat_ms);
}

void us_internal_timer_ready(struct us_timer_t *timer) {
    struct us_sys_t *sys = timer->loop->sys;
    uint64_t expirations;
    /* Reading makes the descriptor quiet again. It fails when another callback
     * of this batch has set the timer anew: then it has not run out. */
    if (sys->read(sys, timer->p.fd, &expirations, sizeof expirations) < 0) return;
    if (timer->cb) timer->cb(timer);
}
