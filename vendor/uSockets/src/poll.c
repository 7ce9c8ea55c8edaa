/* Polls of the user's own: any descriptor, watched by the same loop. */
#include "internal.h"

#include <errno.h>
#include <string.h>

struct user_poll {
    struct us_poll_t p;
    void (*cb)(struct us_poll_t *p, int error, int events);
    unsigned int ext_size;
};

void us_internal_poll_init(struct us_poll_t *p, int fd, int type, int flags) {
    *p = (struct us_poll_t) {.fd = fd, .type = (uint8_t) type, .flags = (uint16_t) flags};
}

void us_internal_user_poll_ready(struct us_poll_t *p, int error, int events) {
    struct user_poll *user = (struct user_poll *) p;
    if (user->cb && (error || events)) user->cb(p, error, events);
}

struct us_poll_t *us_create_poll(struct us_loop_t *loop, int fallthrough, unsigned int ext_size) {
    struct user_poll *user = us_internal_alloc(loop, sizeof *user, ext_size);
    if (!user) return NULL;
    us_internal_poll_init(&user->p, -1, POLL_USER, fallthrough ? POLL_FALLTHROUGH : 0);
    user->ext_size = ext_size;
    if (!fallthrough) loop->alive++;
    return &user->p;
}

void us_poll_on_ready(struct us_poll_t *p, void (*cb)(struct us_poll_t *p, int error, int events)) {
    if (p->type == POLL_USER) ((struct user_poll *) p)->cb = cb;
}

void us_poll_free(struct us_poll_t *p, struct us_loop_t *loop) {
    if (p->type != POLL_USER || p->flags & POLL_DEAD) return;
    us_internal_poll_stop(loop, p);
    if (!(p->flags & POLL_FALLTHROUGH)) loop->alive--;
    us_internal_bury(loop, p);
}

void us_poll_init(struct us_poll_t *p, LIBUS_SOCKET_DESCRIPTOR fd, int poll_type) {
    (void) poll_type;
    if (p->type == POLL_USER) p->fd = fd;
}

void us_poll_start(struct us_poll_t *p, struct us_loop_t *loop, int events) {
    if (!(p->flags & POLL_DEAD)) (void) us_internal_poll_start(loop, p, events);
}

void us_poll_change(struct us_poll_t *p, struct us_loop_t *loop, int events) {
    (void) us_internal_poll_change(loop, p, events);
}

void us_poll_stop(struct us_poll_t *p, struct us_loop_t *loop) {
    us_internal_poll_stop(loop, p);
}

int us_poll_events(struct us_poll_t *p) {
    return p->events;
}

void *us_poll_ext(struct us_poll_t *p) {
    if (p->type == POLL_USER) return (struct user_poll *) p + 1;
    return p->type == POLL_TIMER ? us_timer_ext((struct us_timer_t *) p) : us_socket_ext(0, (struct us_socket_t *) p);
}

LIBUS_SOCKET_DESCRIPTOR us_poll_fd(struct us_poll_t *p) {
    return p->fd;
}

struct us_poll_t *us_poll_resize(struct us_poll_t *p, struct us_loop_t *loop, unsigned int ext_size) {
    struct user_poll *old = (struct user_poll *) p;
    if (p->type != POLL_USER || p->flags & POLL_DEAD) {
        errno = EINVAL;
        return NULL;
    }
    if (old->ext_size == ext_size) return p;
    struct user_poll *new = us_internal_alloc(loop, sizeof *new, ext_size);
    if (!new) return NULL;
    *new = *old;
    new->ext_size = ext_size;
    memcpy(new + 1, old + 1, old->ext_size < ext_size ? old->ext_size : ext_size);
    if (us_internal_poll_move(loop, &new->p)) {
        int error = errno;
        loop->sys->release(loop->sys, new);
        errno = error;
        return NULL;
    }
    us_internal_bury(loop, p);
    return &new->p;
}
