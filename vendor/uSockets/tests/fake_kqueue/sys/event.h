/* As much of kqueue as the socket library uses, for testing its back end where there
 * is none: fake_kqueue.c has it on epoll. The names are those of kqueue(2), the
 * values are our own. */
#ifndef FAKE_KQUEUE_EVENT_H
#define FAKE_KQUEUE_EVENT_H

#include <stdint.h>
#include <time.h>

struct kevent {
    uintptr_t ident;
    short filter;
    unsigned short flags;
    unsigned int fflags;
    int64_t data;
    void *udata;
};

#define EV_SET(event, i, f, fl, ff, d, u) \
    (*(event) = (struct kevent) {.ident = (i), .filter = (f), .flags = (fl), .fflags = (ff), .data = (d), .udata = (u)})

enum { EVFILT_READ = -1, EVFILT_WRITE = -2, EVFILT_TIMER = -7, EVFILT_USER = -10 };

enum {
    EV_ADD = 0x1,
    EV_DELETE = 0x2,
    EV_ONESHOT = 0x10,
    EV_CLEAR = 0x20,
    EV_RECEIPT = 0x40,
    EV_ERROR = 0x4000,
    EV_EOF = 0x8000
};

enum { NOTE_LOWAT = 0x1, NOTE_TRIGGER = 0x1000000 };

int kqueue(void);
int kevent(int kq, const struct kevent *changes, int change_count, struct kevent *events, int capacity, const struct timespec *timeout);

#endif
