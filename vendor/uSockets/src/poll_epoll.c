/* The epoll back end: level-triggered, one registration a descriptor, the poll
 * itself as the event's data. `events` of a poll always says what the kernel has
 * been told, so a failed change leaves it as it was. */
#include "internal.h"

#ifdef LIBUS_USE_EPOLL

#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>

/* Events taken from the kernel at once. */
#define BATCH 1024

static int control(struct us_loop_t *loop, int operation, struct us_poll_t *p, int events) {
    struct epoll_event event = {.data = {.ptr = p}};
    if (events & LIBUS_SOCKET_READABLE) event.events |= EPOLLIN;
    if (events & LIBUS_SOCKET_WRITABLE) event.events |= EPOLLOUT;
    return loop->sys->epoll_ctl(loop->sys, loop->poller, operation, p->fd, &event);
}

int us_internal_poller_create(struct us_loop_t *loop) {
    loop->ready = loop->sys->alloc(loop->sys, BATCH * sizeof(struct epoll_event));
    if (!loop->ready) {
        errno = ENOMEM;
        return -1;
    }
    loop->poller = loop->sys->epoll_create1(loop->sys, EPOLL_CLOEXEC);
    return loop->poller < 0 ? -1 : 0;
}

void us_internal_poller_free(struct us_loop_t *loop) {
    if (loop->poller >= 0) loop->sys->close(loop->sys, loop->poller);
    if (loop->ready) loop->sys->release(loop->sys, loop->ready);
}

/* Waits up to timeout_ms (-1 = for ever) and dispatches one batch.
 * Returns the number of ready polls, or -errno. */
int us_internal_poller_dispatch(struct us_loop_t *loop, int timeout_ms) {
    struct epoll_event *ready = loop->ready;
    int count = loop->sys->epoll_wait(loop->sys, loop->poller, ready, BATCH, timeout_ms);
    if (count < 0) return errno == EINTR ? 0 : -errno;
    for (int i = 0; i < count; i++) {
        uint32_t bits = ready[i].events;
        int events = (bits & EPOLLIN ? LIBUS_SOCKET_READABLE : 0) | (bits & EPOLLOUT ? LIBUS_SOCKET_WRITABLE : 0);
        int error = (bits & EPOLLHUP ? POLL_HANGUP : 0) | (bits & EPOLLERR ? POLL_ERROR : 0);
        us_internal_dispatch(loop, ready[i].data.ptr, error, events);
    }
    return count;
}

int us_internal_poll_start(struct us_loop_t *loop, struct us_poll_t *p, int events) {
    if (p->flags & POLL_STARTED) return us_internal_poll_change(loop, p, events);
    if (control(loop, EPOLL_CTL_ADD, p, events)) return -1;
    p->flags |= POLL_STARTED;
    p->events = (uint8_t) events;
    return 0;
}

int us_internal_poll_change(struct us_loop_t *loop, struct us_poll_t *p, int events) {
    if (!(p->flags & POLL_STARTED) || p->events == events) return 0;
    if (control(loop, EPOLL_CTL_MOD, p, events)) return -1;
    p->events = (uint8_t) events;
    return 0;
}

/* Makes `to`, a copy of a poll, the one that events are reported for. */
int us_internal_poll_move(struct us_loop_t *loop, struct us_poll_t *to) {
    return to->flags & POLL_STARTED ? control(loop, EPOLL_CTL_MOD, to, to->events) : 0;
}

/* The registration is removed even where a close follows: a forked child may
 * hold the descriptor open, and the kernel would go on reporting it. */
void us_internal_poll_stop(struct us_loop_t *loop, struct us_poll_t *p) {
    if (p->flags & POLL_STARTED) (void) control(loop, EPOLL_CTL_DEL, p, 0);
    p->flags &= (uint16_t) ~POLL_STARTED;
    p->events = 0;
}

static void close_poll(struct us_loop_t *loop, struct us_poll_t *p) {
    us_internal_poll_stop(loop, p);
    if (p->fd >= 0) loop->sys->close(loop->sys, p->fd);
    p->fd = -1;
}

/* Leaves nothing behind when it fails. */
static int open_poll(struct us_loop_t *loop, struct us_poll_t *p, int fd, int type, int flags) {
    us_internal_poll_init(p, fd, type, flags);
    if (fd < 0) return -1;
    if (us_internal_poll_start(loop, p, LIBUS_SOCKET_READABLE) == 0) return 0;
    int error = errno;
    close_poll(loop, p);
    errno = error;
    return -1;
}

/* ---- Timers: one timerfd each, on the monotonic clock --------------------- */

int us_internal_timer_open(struct us_timer_t *timer, int flags) {
    struct us_sys_t *sys = timer->loop->sys;
    int fd = sys->timerfd_create(sys, CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    return open_poll(timer->loop, &timer->p, fd, POLL_TIMER, flags);
}

int us_internal_timer_set(struct us_timer_t *timer, int ms, int repeat_ms) {
    struct us_sys_t *sys = timer->loop->sys;
    return sys->timerfd_settime(sys, timer->p.fd, ms, repeat_ms);
}

int us_internal_timer_take(struct us_timer_t *timer) {
    struct us_sys_t *sys = timer->loop->sys;
    uint64_t expirations;
    /* Reading makes the descriptor quiet again. It fails when another callback
     * of this batch has set the timer anew: then it has not run out. */
    return sys->read(sys, timer->p.fd, &expirations, sizeof expirations) >= 0;
}

void us_internal_timer_shut(struct us_timer_t *timer) {
    close_poll(timer->loop, &timer->p);
}

/* ---- Wakeup: an eventfd, whose count tells kicks from others -------------- */

int us_internal_wakeup_open(struct us_loop_t *loop) {
    int fd = loop->sys->eventfd(loop->sys, 0, EFD_NONBLOCK | EFD_CLOEXEC);
    return open_poll(loop, &loop->wakeup, fd, POLL_WAKEUP, POLL_FALLTHROUGH);
}

void us_internal_wakeup_send(struct us_loop_t *loop, int is_kick) {
    uint64_t one = 1;
    ssize_t written;
    if (is_kick) loop->kicks++;
    /* EAGAIN: the counter is full, so the loop will wake up anyway. */
    do written = loop->sys->write(loop->sys, loop->wakeup.fd, &one, sizeof one);
    while (written < 0 && errno == EINTR);
}

int us_internal_wakeup_take(struct us_loop_t *loop) {
    uint64_t count = 0;
    if (loop->sys->read(loop->sys, loop->wakeup.fd, &count, sizeof count) < 0) return 0;
    uint64_t kicks = loop->kicks;
    loop->kicks = 0;
    return count > kicks;
}

void us_internal_wakeup_shut(struct us_loop_t *loop) {
    close_poll(loop, &loop->wakeup);
}

#endif
