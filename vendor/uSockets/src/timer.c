/* Precise timers, on what the back end has for them. */
#include "internal.h"

#include <errno.h>

struct us_timer_t *us_create_timer(struct us_loop_t *loop, int fallthrough, unsigned int ext_size) {
    struct us_timer_t *timer = us_internal_alloc(loop, sizeof *timer, ext_size);
    if (!timer) return NULL;
    timer->loop = loop;
    if (us_internal_timer_open(timer, fallthrough ? POLL_FALLTHROUGH : 0)) {
        int error = errno;
        loop->sys->release(loop->sys, timer);
        errno = error;
        return NULL;
    }
    if (!fallthrough) loop->alive++;
    return timer;
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
    us_internal_timer_shut(timer);
    if (!(timer->p.flags & POLL_FALLTHROUGH)) loop->alive--;
    us_internal_bury(loop, &timer->p);
}

/* Returns 0, or -1 and errno. */
int us_internal_timer_arm(struct us_timer_t *timer, void (*cb)(struct us_timer_t *t), int ms, int repeat_ms) {
    timer->cb = cb;
    return us_internal_timer_set(timer, ms < 0 ? 0 : ms, repeat_ms < 0 ? 0 : repeat_ms);
}

void us_timer_set(struct us_timer_t *timer, void (*cb)(struct us_timer_t *t), int ms, int repeat_ms) {
    if (!(timer->p.flags & POLL_DEAD)) (void) us_internal_timer_arm(timer, cb, ms, repeat_ms);
}

void us_internal_timer_ready(struct us_timer_t *timer) {
    if (us_internal_timer_take(timer) && timer->cb) timer->cb(timer);
}
