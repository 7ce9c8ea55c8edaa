/* The kqueue back end alone: which changes it asks for, and what it makes of events
 * that a script puts into its batch. */
#include "fixture.h"

#include <sys/event.h>

enum { ADD = 'a', WATCH = 'w', DELETE = 'd' };

static struct {
    struct us_sys_t sys;
    int calls, changes;
    char told[64];          /* each change: a letter for what, r or w for the filter */
    struct kevent batch[8]; /* what the next wait finds */
    int count;
    int refuse_filter, refuse_flags, error; /* the change whose receipt says an error */
    int interrupted;                        /* calls that fail with EINTR */
    int period_ms, is_once;                 /* of the last timer that was set */
} world;

static void note(const struct kevent *c) {
    size_t length = strlen(world.told);
    if (c->filter == EVFILT_TIMER && c->flags & EV_ADD) {
        world.period_ms = (int) c->data;
        world.is_once = (c->flags & EV_ONESHOT) != 0;
    }
    if ((c->filter != EVFILT_READ && c->filter != EVFILT_WRITE) || length + 3 > sizeof world.told) return;
    world.told[length] = c->flags & EV_DELETE ? DELETE : c->fflags & NOTE_LOWAT ? WATCH : ADD;
    world.told[length + 1] = c->filter == EVFILT_READ ? 'r' : 'w';
}

static int scripted_kevent(struct us_sys_t *sys, int kq, const struct kevent *changes, int change_count, struct kevent *events,
    int capacity, const struct timespec *timeout) {
    (void) sys;
    if (change_count == 0 && world.count) {
        int count = world.count;
        memcpy(events, world.batch, (size_t) count * sizeof *events);
        world.count = 0;
        return count;
    }
    if (change_count && world.interrupted && world.interrupted--) {
        errno = EINTR;
        return -1;
    }
    world.calls += change_count > 0;
    int count = change_count ? 0 : kevent(kq, NULL, 0, events, capacity, timeout);
    for (int i = 0; i < change_count; i++) {
        int refused = world.error && changes[i].filter == world.refuse_filter && changes[i].flags & world.refuse_flags;
        note(&changes[i]);
        if (!refused) {
            CHECK_EQUAL(kevent(kq, &changes[i], 1, &events[count++], 1, timeout), 1);
            continue;
        }
        events[count] = changes[i];
        events[count].flags = EV_ERROR;
        events[count++].data = world.error;
    }
    return count;
}

static void open_scripted(void) {
    memset(&world, 0, sizeof world);
    world.sys = *us_sys_default();
    world.sys.kevent = scripted_kevent;
    fixture_open_on(&world.sys, "");
}

static void script(void *udata, int fd, int filter, int flags, unsigned int fflags) {
    EV_SET(&world.batch[world.count++], (uintptr_t) fd, (short) filter, (unsigned short) flags, fflags, 0, udata);
}

static void refuse(int filter, int flags, int error) {
    world.refuse_filter = filter;
    world.refuse_flags = flags;
    world.error = error;
}

static void forget_told(void) {
    memset(world.told, 0, sizeof world.told);
    world.calls = 0;
}

static int was_told(const char *changes, int calls) {
    int as_expected = strcmp(world.told, changes) == 0 && world.calls == calls;
    if (!as_expected) fprintf(stderr, "told \"%s\" in %d calls, not \"%s\" in %d\n", world.told, world.calls, changes, calls);
    forget_told();
    return as_expected;
}

/* ---- Users' polls --------------------------------------------------------- */

static int ready, last_error, last_events, ends[2];
static struct us_poll_t *polled;

static void count_ready(struct us_poll_t *p, int error, int events) {
    CHECK(p == polled);
    ready++;
    last_error = error;
    last_events = events;
}

static void open_poll(int events) {
    open_scripted();
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends) == 0);
    polled = us_create_poll(loop, 0, 0);
    us_poll_on_ready(polled, count_ready);
    us_poll_init(polled, ends[0], 0);
    forget_told();
    ready = last_error = last_events = 0;
    us_poll_start(polled, loop, events);
}

static void close_poll(void) {
    us_poll_free(polled, loop);
    close(ends[0]);
    close(ends[1]);
    fixture_close();
}

static void changes_only_what_differs(void) {
    const int both = LIBUS_SOCKET_READABLE | LIBUS_SOCKET_WRITABLE;
    open_poll(LIBUS_SOCKET_READABLE);
    CHECK(was_told("ar", 1));
    us_poll_change(polled, loop, LIBUS_SOCKET_READABLE);
    us_poll_start(polled, loop, LIBUS_SOCKET_READABLE);
    CHECK(was_told("", 0));
    us_poll_change(polled, loop, both);
    CHECK(was_told("dwaw", 1));
    us_poll_change(polled, loop, LIBUS_SOCKET_WRITABLE);
    CHECK(was_told("drwr", 1));
    us_poll_change(polled, loop, LIBUS_SOCKET_READABLE);
    CHECK(was_told("drardw", 1));
    us_poll_change(polled, loop, 0);
    CHECK(was_told("drwr", 1));
    us_poll_stop(polled, loop);
    CHECK(was_told("drdw", 1));
    us_poll_stop(polled, loop);
    CHECK(was_told("", 0));
    us_poll_start(polled, loop, both);
    CHECK(was_told("araw", 1));
    close_poll();
}

static void a_refused_change_leaves_all_as_it_was(void) {
    open_poll(LIBUS_SOCKET_READABLE);
    forget_told();
    refuse(EVFILT_WRITE, EV_ADD, ENOMEM);
    us_poll_change(polled, loop, LIBUS_SOCKET_WRITABLE);
    CHECK_EQUAL(us_poll_events(polled), LIBUS_SOCKET_READABLE);
    CHECK(was_told("drwrdwawdrardw", 2));
    say(ends[1], "x");
    pump(&ready, 1);
    us_poll_stop(polled, loop);
    forget_told();
    us_poll_start(polled, loop, LIBUS_SOCKET_READABLE | LIBUS_SOCKET_WRITABLE);
    CHECK(was_told("arawdrdw", 2));
    CHECK_EQUAL(us_poll_events(polled), 0);
    CHECK(!readable_now(us_loop_fd(loop)));
    close_poll();
}

static void what_cannot_be_watched_can_be_polled(void) {
    const int errors[] = {EINVAL, ENODEV, EPERM, ENOMEM};
    for (int i = 0; i < 4; i++) {
        open_poll(0);
        us_poll_stop(polled, loop);
        refuse(EVFILT_READ, EV_CLEAR, errors[i]);
        us_poll_start(polled, loop, LIBUS_SOCKET_WRITABLE);
        CHECK_EQUAL(us_poll_events(polled), errors[i] == ENOMEM ? 0 : LIBUS_SOCKET_WRITABLE);
        close_poll();
    }
}

/* What a poll with some interest makes of one event. */
static void events_mean(void) {
    enum { NOTHING = -1, R = LIBUS_SOCKET_READABLE, W = LIBUS_SOCKET_WRITABLE };
    enum { HANGUP = 1, ERROR = 2 };
    static const struct { int interest, filter, flags; unsigned int fflags; int error, events; const char *told; } cases[] = {
        {R, EVFILT_READ, 0, 0, 0, R, ""},
        {W, EVFILT_WRITE, 0, 0, 0, W, ""},
        {R | W, EVFILT_WRITE, 0, 0, 0, W, ""},
        {R, EVFILT_READ, EV_EOF, 0, 0, R, "ww"}, /* the end: is it a hang-up? */
        {R | W, EVFILT_READ, EV_EOF, 0, 0, R, ""}, /* the other filter will tell */
        {0, EVFILT_READ, EV_EOF, 0, NOTHING, 0, "ww"},
        {R, EVFILT_READ, EV_EOF, ECONNRESET, HANGUP | ERROR, R, ""},
        {0, EVFILT_READ, EV_EOF, ECONNRESET, HANGUP | ERROR, 0, ""},
        {R | W, EVFILT_WRITE, EV_EOF, 0, HANGUP, W, ""},
        {R, EVFILT_WRITE, EV_EOF, 0, HANGUP, 0, ""},
        {0, EVFILT_WRITE, EV_EOF, 0, HANGUP, 0, ""},
        {W, EVFILT_WRITE, EV_EOF, ETIMEDOUT, HANGUP | ERROR, W, ""},
        {R, EVFILT_READ, EV_ERROR, 0, ERROR, R, ""},
        {W, EVFILT_READ, 0, 0, NOTHING, 0, ""}, /* watched, and no end yet */
        {R, EVFILT_WRITE, 0, 0, NOTHING, 0, ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        open_poll(cases[i].interest);
        forget_told();
        script(polled, ends[0], cases[i].filter, cases[i].flags, cases[i].fflags);
        CHECK_EQUAL(us_loop_step(loop), 1);
        CHECK_EQUAL(ready, cases[i].error != NOTHING);
        if (ready) CHECK(last_error == cases[i].error && last_events == cases[i].events);
        if (!was_told(cases[i].told, *cases[i].told != 0)) CHECK_EQUAL(i, -1);
        close_poll();
    }
}

static void a_pipe_without_its_other_end_has_hung_up(void) {
    open_poll(LIBUS_SOCKET_READABLE);
    refuse(EVFILT_WRITE, EV_CLEAR, EPIPE);
    script(polled, ends[0], EVFILT_READ, EV_EOF, 0);
    us_loop_step(loop);
    CHECK(ready == 1 && last_error && last_events == LIBUS_SOCKET_READABLE);
    close_poll();
}

/* The descriptor is closed and its number in use again before the second event. */
static void start_anew(struct us_poll_t *p, int error, int events) {
    (void) error, (void) events;
    ready++;
    us_poll_stop(p, loop);
    us_poll_start(p, loop, LIBUS_SOCKET_READABLE);
}

static void events_of_what_was_stopped_are_forgotten(void) {
    open_poll(LIBUS_SOCKET_READABLE | LIBUS_SOCKET_WRITABLE);
    us_poll_on_ready(polled, start_anew);
    script(polled, ends[0], EVFILT_WRITE, EV_EOF, ECONNREFUSED);
    script(polled, ends[0], EVFILT_READ, EV_EOF, ECONNREFUSED);
    us_loop_step(loop);
    CHECK_EQUAL(ready, 1);
    close_poll();
}

/* ---- Sockets -------------------------------------------------------------- */

static struct us_socket_t *pair[2];

static struct us_socket_t *move_the_other(struct us_socket_t *s, char *data, int length) {
    count_data(s, data, length);
    struct us_socket_t **other = &pair[s == pair[0]];
    if (seen.data_events == 1) *other = us_socket_context_adopt_socket(0, context, *other, 64);
    return s;
}

static void events_go_with_what_is_moved(void) {
    open_scripted();
    us_socket_context_on_data(0, context, move_the_other);
    int fds[2];
    for (int i = 0; i < 2; i++) {
        fds[i] = unix_client(&pair[i]);
        say(fds[i], "x");
        script(pair[i], us_poll_fd((struct us_poll_t *) pair[i]), EVFILT_READ, 0, 0);
    }
    forget_told();
    us_loop_step(loop);
    CHECK_EQUAL(seen.bytes, 2);
    CHECK(was_told("ardw", 1));
    for (int i = 0; i < 2; i++) close(fds[i]);
    pump(&seen.closed, 2);
    fixture_close();
}

/* After the peer's end writing is watched; a move must not lose that. */
static void a_watch_goes_with_what_is_moved(void) {
    open_scripted();
    struct us_socket_t *s;
    int fd = unix_client(&s);
    shutdown(fd, SHUT_WR);
    pump(&seen.ended, 1);
    forget_told();
    s = us_socket_context_adopt_socket(0, context, s, 64);
    CHECK(was_told("wrdwww", 2));
    refuse(EVFILT_READ, EV_ADD, ENOMEM);
    CHECK(us_socket_context_adopt_socket(0, context, s, 128) == NULL && errno == ENOMEM);
    world.error = 0;
    close(fd);
    pump(&seen.closed, 1);
    CHECK_EQUAL(seen.code, 0);
    fixture_close();
}

/* Nothing can be sent any more by our own doing, which must not look like a hang-up. */
static void after_our_own_end_nobody_asks_to_write(void) {
    open_scripted();
    struct us_socket_t *s;
    int fd = unix_client(&s);
    us_poll_change((struct us_poll_t *) s, loop, LIBUS_SOCKET_READABLE | LIBUS_SOCKET_WRITABLE);
    forget_told();
    us_socket_shutdown(0, s);
    CHECK(was_told("dw", 1));
    say(fd, "x");
    pump_bytes(1);
    CHECK_EQUAL(seen.closed, 0);
    close(fd);
    pump(&seen.closed, 1);
    CHECK_EQUAL(seen.code, 0);
    fixture_close();
}

/* ---- Timers and wakeups ---------------------------------------------------- */

static int ran_out;
static struct us_timer_t *timers[2];

static void count_time(struct us_timer_t *t) {
    (void) t;
    ran_out++;
}

static void set_both_anew(struct us_timer_t *t) {
    count_time(t);
    for (int i = 0; i < 2; i++) us_timer_set(timers[i], count_time, 3600000, 0);
}

static void a_timer_that_was_set_anew_has_not_run_out(void) {
    open_scripted();
    ran_out = 0;
    for (int i = 0; i < 2; i++) {
        timers[i] = us_create_timer(loop, 0, 0);
        us_timer_set(timers[i], set_both_anew, 3600000, 0);
        script(timers[i], 0, EVFILT_TIMER, 0, 0);
    }
    us_loop_step(loop);
    CHECK_EQUAL(ran_out, 1);
    for (int i = 0; i < 2; i++) us_timer_close(timers[i]);
    fixture_close();
}

static void the_period_follows_the_first_time(void) {
    static const struct { int ms, repeat_ms, first, once, then; } cases[] = {
        {7, 0, 7, 1, 7}, {7, 7, 7, 0, 7}, {7, 3600000, 7, 0, 3600000}, {0, 9, 1, 0, 9}};
    for (int i = 0; i < 4; i++) {
        open_scripted();
        ran_out = 0;
        timers[0] = us_create_timer(loop, 0, 0);
        us_timer_set(timers[0], count_time, cases[i].ms, cases[i].repeat_ms);
        CHECK(world.period_ms == cases[i].first && world.is_once == cases[i].once);
        script(timers[0], 0, EVFILT_TIMER, 0, 0);
        us_loop_step(loop);
        CHECK_EQUAL(world.period_ms, cases[i].then);
        CHECK_EQUAL(ran_out, 1);
        us_timer_close(timers[0]);
        fixture_close();
    }
}

static int wakeups;

static void count_wakeup(struct us_loop_t *l) {
    (void) l;
    wakeups++;
}

static void an_interrupted_wakeup_is_repeated(void) {
    open_scripted();
    struct us_loop_t *first = loop;
    loop = us_create_loop_on(&world.sys, count_wakeup, NULL, NULL, 0);
    world.interrupted = 2;
    us_wakeup_loop(loop);
    CHECK_EQUAL(us_loop_step(loop), 1);
    CHECK_EQUAL(wakeups, 1);
    us_loop_free(loop);
    loop = first;
    fixture_close();
}

int main(void) {
    RUN(changes_only_what_differs);
    RUN(a_refused_change_leaves_all_as_it_was);
    RUN(what_cannot_be_watched_can_be_polled);
    RUN(events_mean);
    RUN(a_pipe_without_its_other_end_has_hung_up);
    RUN(events_of_what_was_stopped_are_forgotten);
    RUN(events_go_with_what_is_moved);
    RUN(a_watch_goes_with_what_is_moved);
    RUN(after_our_own_end_nobody_asks_to_write);
    RUN(a_timer_that_was_set_anew_has_not_run_out);
    RUN(the_period_follows_the_first_time);
    RUN(an_interrupted_wakeup_is_repeated);
    return check_result();
}
