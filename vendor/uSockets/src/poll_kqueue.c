/* The kqueue back end: two filters a descriptor, the poll itself as the event's
 * data. `events` of a poll always says what the kernel has been told, so a failed
 * change leaves it as it was; all that one change of a poll needs is one call.
 *
 * A filter either asks for readiness, by level, or only watches for the end and for
 * errors, which the layers above must hear of even from a poll that asks for nothing:
 * it has then a low-water mark that is never reached, and tells each news once.
 * Reading is always asked for or watched. Writing is watched from the peer's end on:
 * only there it tells a half-closed connection from a hang-up.
 *
 * The two filters of a poll are two events, so what a callback stops or moves is
 * taken out of the rest of the batch, lest a descriptor of the same number gets
 * what was meant for the one before. */
#include "internal.h"

#ifdef LIBUS_USE_KQUEUE

#include <errno.h>
#include <limits.h>
#include <sys/event.h>
#include <time.h>

/* Events taken from the kernel at once. */
#define BATCH 1024

enum { CHANGES_MOST = 4 };

/* The two user events: one calls back, one does not. */
enum { WAKEUP, KICK };

struct batch {
    int next, count; /* both 0 outside of a dispatch */
    struct kevent events[BATCH];
};

/* ---- Changes -------------------------------------------------------------- */

struct changes {
    int count;
    struct kevent list[CHANGES_MOST];
};

static void change(struct changes *changes, uintptr_t ident, int filter, int flags, unsigned int fflags, int data, void *udata) {
    /* A receipt for each change: nothing that is ready is returned in its place. */
    EV_SET(&changes->list[changes->count++], ident, (short) filter, (unsigned short) (flags | EV_RECEIPT), fflags, data, udata);
}

/* A filter that is not there to be removed is no failure, nor is a descriptor that has
 * no such filter to watch, as some of a user's may be. */
static int matters(const struct kevent *asked, int error) {
    if (!error || asked->flags & EV_DELETE) return 0;
    return !(asked->fflags & NOTE_LOWAT && (error == EINVAL || error == ENODEV || error == EPERM));
}

/* Leaves the error of each change, or 0, in its `data`. */
static int apply(struct us_loop_t *loop, struct changes *changes) {
    struct kevent receipts[CHANGES_MOST];
    const struct timespec at_once = {0};
    int failed = 0;
    int count = loop->sys->kevent(loop->sys, loop->poller, changes->list, changes->count, receipts, CHANGES_MOST, &at_once);
    for (int i = 0; i < count; i++) {
        int error = (int) receipts[i].data;
        changes->list[i].data = error;
        if (!matters(&changes->list[i], error)) continue;
        errno = error;
        failed = 1;
    }
    return count < 0 || failed ? -1 : 0;
}

static void end_filter(struct changes *changes, struct us_poll_t *p, int filter) {
    change(changes, (uintptr_t) p->fd, filter, EV_DELETE, 0, 0, NULL);
}

static void ask(struct changes *changes, struct us_poll_t *p, int filter) {
    change(changes, (uintptr_t) p->fd, filter, EV_ADD, 0, 0, p);
}

static void watch(struct changes *changes, struct us_poll_t *p, int filter) {
    change(changes, (uintptr_t) p->fd, filter, EV_ADD | EV_CLEAR, NOTE_LOWAT, INT_MAX, p);
}

/* Whether a filter asks or watches cannot be changed while it is there. */
static int tell(struct us_loop_t *loop, struct us_poll_t *p, int events, int anew) {
    struct changes changes = {0};
    int differ = anew ? LIBUS_SOCKET_READABLE | LIBUS_SOCKET_WRITABLE : p->events ^ events;
    if (differ & LIBUS_SOCKET_READABLE) {
        if (p->flags & POLL_STARTED) end_filter(&changes, p, EVFILT_READ);
        (events & LIBUS_SOCKET_READABLE ? ask : watch)(&changes, p, EVFILT_READ);
    }
    if (differ & LIBUS_SOCKET_WRITABLE) {
        if (p->flags & POLL_STARTED) end_filter(&changes, p, EVFILT_WRITE);
        if (events & LIBUS_SOCKET_WRITABLE) ask(&changes, p, EVFILT_WRITE);
    }
    return apply(loop, &changes);
}

/* Takes what is left for the poll out of the running batch. */
static void forget(struct us_loop_t *loop, struct us_poll_t *p) {
    struct batch *batch = loop->ready;
    for (int i = batch->next; i < batch->count; i++) {
        if (batch->events[i].udata == (void *) p) batch->events[i].udata = NULL;
    }
}

static void end_both(struct us_loop_t *loop, struct us_poll_t *p) {
    struct changes changes = {0};
    end_filter(&changes, p, EVFILT_READ);
    end_filter(&changes, p, EVFILT_WRITE);
    (void) apply(loop, &changes);
}

int us_internal_poll_start(struct us_loop_t *loop, struct us_poll_t *p, int events) {
    if (p->flags & POLL_STARTED) return us_internal_poll_change(loop, p, events);
    if (tell(loop, p, events, 1)) {
        int error = errno;
        end_both(loop, p); /* one of the two may be there */
        errno = error;
        return -1;
    }
    p->flags |= POLL_STARTED;
    p->events = (uint8_t) events;
    return 0;
}

int us_internal_poll_change(struct us_loop_t *loop, struct us_poll_t *p, int events) {
    if (!(p->flags & POLL_STARTED) || p->events == events) return 0;
    if (tell(loop, p, events, 0)) {
        int error = errno;
        (void) tell(loop, p, p->events, 1); /* what was removed may have to come back */
        errno = error;
        return -1;
    }
    p->events = (uint8_t) events;
    return 0;
}

static void redirect(struct us_loop_t *loop, struct us_poll_t *to) {
    struct batch *batch = loop->ready;
    for (int i = batch->next; i < batch->count; i++) {
        struct kevent *event = &batch->events[i];
        int is_of_descriptor = event->filter == EVFILT_READ || event->filter == EVFILT_WRITE;
        if (is_of_descriptor && event->udata && event->ident == (uintptr_t) to->fd) event->udata = to;
    }
}

/* Makes `to`, a copy of a poll, the one that events are reported for. Adding what is
 * there only changes its data, so nothing that has been told is lost. Whether writing
 * is watched is not known here: its removal tells. */
int us_internal_poll_move(struct us_loop_t *loop, struct us_poll_t *to) {
    struct changes changes = {0}, again = {0};
    int writes = to->events & LIBUS_SOCKET_WRITABLE;
    if (!(to->flags & POLL_STARTED)) return 0;
    (to->events & LIBUS_SOCKET_READABLE ? ask : watch)(&changes, to, EVFILT_READ);
    (writes ? ask : end_filter)(&changes, to, EVFILT_WRITE);
    if (apply(loop, &changes)) return -1;
    redirect(loop, to);
    if (writes || changes.list[1].data) return 0;
    watch(&again, to, EVFILT_WRITE);
    (void) apply(loop, &again);
    return 0;
}

void us_internal_poll_stop(struct us_loop_t *loop, struct us_poll_t *p) {
    if (p->flags & POLL_STARTED) end_both(loop, p);
    forget(loop, p);
    p->flags &= (uint16_t) ~POLL_STARTED;
    p->events = 0;
}

/* ---- Events --------------------------------------------------------------- */

/* The peer's end was reported. Whether anything can be sent yet is told by an event
 * of the other filter. */
static int watch_for_hang_up(struct us_loop_t *loop, struct us_poll_t *p) {
    struct changes changes = {0};
    if (p->events & LIBUS_SOCKET_WRITABLE) return 0;
    watch(&changes, p, EVFILT_WRITE);
    return apply(loop, &changes) && errno == EPIPE ? POLL_HANGUP : 0; /* a pipe without its other end says so */
}

/* What an event says besides readiness. Nothing more can be sent after our own end
 * either, but then nobody asks to write, and who watches has seen the peer's end. */
static int error_of(struct us_loop_t *loop, struct us_poll_t *p, const struct kevent *event) {
    if (event->flags & EV_ERROR) return POLL_ERROR;
    if (!(event->flags & EV_EOF)) return 0;
    if (event->fflags) return POLL_ERROR | POLL_HANGUP;
    return event->filter == EVFILT_READ ? watch_for_hang_up(loop, p) : POLL_HANGUP;
}

static void dispatch(struct us_loop_t *loop, const struct kevent *event) {
    struct us_poll_t *p = event->udata;
    if (!p || p->flags & POLL_DEAD) return; /* forgotten, a kick, or moved */
    if (event->filter != EVFILT_READ && event->filter != EVFILT_WRITE) {
        us_internal_dispatch(loop, p, 0, LIBUS_SOCKET_READABLE);
        return;
    }
    int error = error_of(loop, p, event);
    int events = event->filter == EVFILT_READ ? LIBUS_SOCKET_READABLE : LIBUS_SOCKET_WRITABLE;
    if (error || p->events & events) us_internal_dispatch(loop, p, error, events);
}

/* Waits up to timeout_ms (-1 = for ever) and dispatches one batch.
 * Returns the number of events, or -errno. */
int us_internal_poller_dispatch(struct us_loop_t *loop, int timeout_ms) {
    struct batch *batch = loop->ready;
    const struct timespec limit = {.tv_sec = timeout_ms / 1000, .tv_nsec = timeout_ms % 1000 * 1000000L};
    int count = loop->sys->kevent(loop->sys, loop->poller, NULL, 0, batch->events, BATCH, timeout_ms < 0 ? NULL : &limit);
    if (count < 0) return errno == EINTR ? 0 : -errno;
    batch->count = count;
    for (batch->next = 0; batch->next < count;) {
        struct kevent event = batch->events[batch->next++];
        dispatch(loop, &event);
    }
    batch->next = batch->count = 0;
    return count;
}

int us_internal_poller_create(struct us_loop_t *loop) {
    struct batch *batch = loop->sys->alloc(loop->sys, sizeof *batch);
    if (!batch) {
        errno = ENOMEM;
        return -1;
    }
    batch->next = batch->count = 0;
    loop->ready = batch;
    loop->poller = loop->sys->kqueue(loop->sys);
    return loop->poller < 0 ? -1 : 0;
}

void us_internal_poller_free(struct us_loop_t *loop) {
    if (loop->poller >= 0) loop->sys->close(loop->sys, loop->poller);
    if (loop->ready) loop->sys->release(loop->sys, loop->ready);
}

/* ---- Timers: events of their own, without a descriptor --------------------- */

int us_internal_timer_open(struct us_timer_t *timer, int flags) {
    us_internal_poll_init(&timer->p, -1, POLL_TIMER, flags);
    return 0;
}

/* The first time and the period are one number to the kernel, and not every kernel
 * takes a 0. Where they are two, the period is told when the first time has come. */
int us_internal_timer_set(struct us_timer_t *timer, int ms, int repeat_ms) {
    struct changes changes = {0};
    uintptr_t ident = (uintptr_t) timer;
    forget(timer->loop, &timer->p);
    timer->then_ms = ms == repeat_ms ? 0 : repeat_ms;
    change(&changes, ident, EVFILT_TIMER, EV_DELETE, 0, 0, NULL);
    if (ms || repeat_ms) change(&changes, ident, EVFILT_TIMER, EV_ADD | (repeat_ms ? 0 : EV_ONESHOT), 0, ms ? ms : 1, timer);
    return apply(timer->loop, &changes);
}

int us_internal_timer_take(struct us_timer_t *timer) {
    struct changes changes = {0};
    if (!timer->then_ms) return 1;
    change(&changes, (uintptr_t) timer, EVFILT_TIMER, EV_ADD, 0, timer->then_ms, timer);
    timer->then_ms = 0;
    (void) apply(timer->loop, &changes); /* it is there: nothing is allocated */
    return 1;
}

void us_internal_timer_shut(struct us_timer_t *timer) {
    (void) us_internal_timer_set(timer, 0, 0);
}

/* ---- Wakeup: user events --------------------------------------------------- */

int us_internal_wakeup_open(struct us_loop_t *loop) {
    struct changes changes = {0};
    us_internal_poll_init(&loop->wakeup, -1, POLL_WAKEUP, POLL_FALLTHROUGH);
    change(&changes, WAKEUP, EVFILT_USER, EV_ADD | EV_CLEAR, 0, 0, &loop->wakeup);
    change(&changes, KICK, EVFILT_USER, EV_ADD | EV_CLEAR, 0, 0, NULL);
    return apply(loop, &changes);
}

void us_internal_wakeup_send(struct us_loop_t *loop, int is_kick) {
    struct changes changes = {0};
    change(&changes, is_kick ? KICK : WAKEUP, EVFILT_USER, 0, NOTE_TRIGGER, 0, is_kick ? NULL : &loop->wakeup);
    while (apply(loop, &changes) && errno == EINTR) continue;
}

int us_internal_wakeup_take(struct us_loop_t *loop) {
    (void) loop; /* EV_CLEAR has made it quiet */
    return 1;
}

/* The events go with the kqueue. */
void us_internal_wakeup_shut(struct us_loop_t *loop) {
    (void) loop;
}

#endif
