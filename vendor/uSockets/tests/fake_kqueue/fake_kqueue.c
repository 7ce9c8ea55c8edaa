/* A kqueue on epoll. Each note has a descriptor of its own in the queue's epoll: an
 * inner epoll with the watched descriptor in it, a timer, or an event counter. So the
 * two filters of one descriptor are two events, by level or once for each news, as
 * they are where kqueue is real.
 *
 * What a real one does and this one must, because the back end rests on it:
 *  - a note goes when its descriptor is closed, and removing it then fails;
 *  - adding what is there changes its data, not whether it tells its news only once;
 *  - EV_EOF comes from reading at the peer's end, from writing when nothing can be
 *    sent any more, and `fflags` is the error of a connection that broke, which stays
 *    for SO_ERROR; here it is not known which, only that there is one. */
#include "sys/event.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

struct note {
    int kq, fd; /* fd: the note's own */
    struct kevent what;
    struct note *next;
};

static struct note *notes;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static int is_of_descriptor(const struct kevent *what) {
    return what->filter == EVFILT_READ || what->filter == EVFILT_WRITE;
}

static void drop(struct note *note) {
    struct note **link = &notes;
    while (*link != note) link = &(*link)->next;
    *link = note->next;
    close(note->fd);
    free(note);
}

/* Closing a kqueue is a plain close: what it left goes when its number comes again. */
static void drop_all_of(int kq) {
    struct note *next;
    for (struct note *note = notes; note; note = next) {
        next = note->next;
        if (note->kq == kq) drop(note);
    }
}

int kqueue(void) {
    int kq = epoll_create1(0);
    if (kq < 0) return -1;
    pthread_mutex_lock(&lock);
    drop_all_of(kq);
    pthread_mutex_unlock(&lock);
    return kq;
}

/* ---- Notes ---------------------------------------------------------------- */

static uint32_t interest(const struct kevent *what) {
    uint32_t once = what->flags & EV_CLEAR ? EPOLLET : 0;
    if (what->fflags & NOTE_LOWAT) return once | (what->filter == EVFILT_READ ? EPOLLRDHUP : 0);
    return once | (what->filter == EVFILT_READ ? EPOLLIN | EPOLLRDHUP : EPOLLOUT);
}

static int control(struct note *note, int operation) {
    struct epoll_event event = {.events = interest(&note->what)};
    return epoll_ctl(note->fd, operation, (int) note->what.ident, &event);
}

static struct timespec of_ms(int64_t ms) {
    return (struct timespec) {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
}

static int set_timer(struct note *note) {
    struct itimerspec spec = {.it_value = of_ms(note->what.data)};
    if (!(note->what.flags & EV_ONESHOT)) spec.it_interval = spec.it_value;
    return timerfd_settime(note->fd, 0, &spec, NULL);
}

static int own_descriptor(const struct kevent *what) {
    if (is_of_descriptor(what)) return epoll_create1(EPOLL_CLOEXEC);
    if (what->filter == EVFILT_TIMER) return timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    return eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
}

static int begin(struct note *note) {
    struct epoll_event event = {.events = EPOLLIN, .data = {.ptr = note}};
    if (is_of_descriptor(&note->what) && control(note, EPOLL_CTL_ADD)) return -1;
    if (note->what.filter == EVFILT_TIMER && set_timer(note)) return -1;
    return epoll_ctl(note->kq, EPOLL_CTL_ADD, note->fd, &event);
}

static int add(int kq, const struct kevent *what) {
    struct note *note = malloc(sizeof *note);
    if (!note) return ENOMEM;
    *note = (struct note) {.kq = kq, .fd = own_descriptor(what), .what = *what, .next = notes};
    int error = note->fd < 0 ? errno : 0;
    notes = note;
    if (!error && begin(note)) error = errno;
    if (error) drop(note);
    return error;
}

/* A note whose descriptor is closed is none any more, even if the number is in use again. */
static struct note *find(int kq, const struct kevent *what) {
    struct note *note = notes;
    while (note && !(note->kq == kq && note->what.filter == what->filter && note->what.ident == what->ident)) note = note->next;
    if (!note || !is_of_descriptor(what) || control(note, EPOLL_CTL_MOD) == 0) return note;
    drop(note);
    return NULL;
}

static int modify(struct note *note, const struct kevent *what) {
    unsigned short flags = note->what.flags;
    note->what = *what;
    note->what.flags = flags;
    if (is_of_descriptor(what)) return control(note, EPOLL_CTL_MOD) ? errno : 0;
    return what->filter == EVFILT_TIMER && set_timer(note) ? errno : 0;
}

static int apply(int kq, const struct kevent *what) {
    struct note *note = find(kq, what);
    if (what->flags & EV_DELETE) {
        if (!note) return ENOENT;
        drop(note);
        return 0;
    }
    if (what->flags & EV_ADD) return note ? modify(note, what) : add(kq, what);
    if (!note) return ENOENT;
    uint64_t one = 1;
    if (what->filter == EVFILT_USER && what->fflags & NOTE_TRIGGER) (void) !write(note->fd, &one, sizeof one);
    return 0;
}

/* ---- Events --------------------------------------------------------------- */

static int take_descriptor(struct note *note, struct kevent *event) {
    struct epoll_event ready;
    if (epoll_wait(note->fd, &ready, 1, 0) != 1) return 0;
    uint32_t ends = note->what.filter == EVFILT_READ ? EPOLLRDHUP | EPOLLHUP | EPOLLERR : EPOLLHUP | EPOLLERR;
    event->flags |= ready.events & ends ? EV_EOF : 0;
    event->fflags = ready.events & EPOLLERR ? EIO : 0;
    return 1;
}

static int take(struct note *note, struct kevent *event) {
    *event = note->what;
    event->fflags = 0;
    if (is_of_descriptor(&note->what)) return take_descriptor(note, event);
    uint64_t count;
    if (read(note->fd, &count, sizeof count) < 0) return 0;
    event->data = (int64_t) count;
    if (note->what.flags & EV_ONESHOT) drop(note);
    return 1;
}

static int collect(int kq, struct kevent *events, int capacity, int timeout_ms) {
    struct epoll_event ready[1024];
    int found = epoll_wait(kq, ready, capacity < 1024 ? capacity : 1024, timeout_ms);
    int count = 0;
    pthread_mutex_lock(&lock);
    for (int i = 0; i < found; i++) count += take(ready[i].data.ptr, &events[count]);
    pthread_mutex_unlock(&lock);
    return found < 0 ? found : count;
}

static int change_all(int kq, const struct kevent *changes, int change_count, struct kevent *events, int capacity) {
    int receipts = 0, failed = 0;
    pthread_mutex_lock(&lock);
    for (int i = 0; i < change_count && !failed; i++) {
        int error = apply(kq, &changes[i]);
        if (!error && !(changes[i].flags & EV_RECEIPT)) continue;
        if (receipts == capacity) {
            failed = error;
        } else {
            events[receipts] = changes[i];
            events[receipts].flags = EV_ERROR;
            events[receipts++].data = error;
        }
    }
    pthread_mutex_unlock(&lock);
    if (failed) errno = failed;
    return failed ? -1 : receipts;
}

/* Only the thread of a loop waits on its queue, so that what is found here is still
 * there when it is taken. */
int kevent(int kq, const struct kevent *changes, int change_count, struct kevent *events, int capacity, const struct timespec *timeout) {
    int receipts = change_all(kq, changes, change_count, events, capacity);
    if (receipts || capacity == 0) return receipts;
    return collect(kq, events, capacity, timeout ? (int) (timeout->tv_sec * 1000 + timeout->tv_nsec / 1000000) : -1);
}
