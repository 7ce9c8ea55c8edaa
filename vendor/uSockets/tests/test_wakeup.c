/* Waking a loop from other threads and from its own callbacks. */
#include "fixture.h"
#include "faults.h"

#include <pthread.h>
#include <stdatomic.h>

static int wakeups;
static atomic_int announced;

static void count_wakeup(struct us_loop_t *l) {
    CHECK(l == loop);
    wakeups++;
}

static void *announce_and_wake(void *times) {
    for (intptr_t i = 0; i < (intptr_t) times; i++) {
        atomic_fetch_add(&announced, 1);
        us_wakeup_loop(loop);
    }
    return NULL;
}

static void open_loop(struct us_sys_t *sys) {
    wakeups = 0;
    loop = us_create_loop_on(sys, count_wakeup, NULL, NULL, 0);
    CHECK(loop != NULL);
}

static void several_before_a_step_give_one(void) {
    open_loop(us_sys_default());
    CHECK(!readable_now(us_loop_fd(loop)));
    us_loop_step(loop);
    CHECK_EQUAL(wakeups, 0);
    for (int i = 0; i < 5; i++) us_wakeup_loop(loop);
    CHECK(readable_now(us_loop_fd(loop)));
    us_loop_step(loop);
    CHECK_EQUAL(wakeups, 1);
    CHECK(!readable_now(us_loop_fd(loop)));
    us_loop_free(loop);
}

static void none_is_lost_between_threads(void) {
    pthread_t threads[4];
    open_loop(us_sys_default());
    atomic_store(&announced, 0);
    for (int i = 0; i < 4; i++) CHECK(pthread_create(&threads[i], NULL, announce_and_wake, (void *) 1000) == 0);
    struct pollfd p = {.fd = us_loop_fd(loop), .events = POLLIN};
    int noticed = 0;
    while (noticed < 4000 && poll(&p, 1, GUARD_MS) > 0) {
        int before = wakeups;
        us_loop_step(loop);
        if (wakeups > before) noticed = atomic_load(&announced);
    }
    CHECK_EQUAL(noticed, 4000);
    for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
    us_loop_free(loop);
}

static void finish(struct us_loop_t *l) {
    count_wakeup(l);
    us_timer_close(*(struct us_timer_t **) us_loop_ext(l));
}

static void a_blocked_run_is_woken(void) {
    pthread_t thread;
    wakeups = 0;
    loop = us_create_loop(NULL, finish, NULL, NULL, sizeof(struct us_timer_t *));
    /* A timer that never runs out keeps the loop going until it is closed. */
    *(struct us_timer_t **) us_loop_ext(loop) = us_create_timer(loop, 0, 0);
    CHECK(pthread_create(&thread, NULL, announce_and_wake, (void *) 1) == 0);
    us_loop_run(loop);
    CHECK_EQUAL(wakeups, 1);
    pthread_join(thread, NULL);
    us_loop_free(loop);
}

static void an_interrupted_wakeup_is_repeated(void) {
    faults_reset();
    open_loop(&faults.sys);
    fail_next(CALL_WRITE, EINTR, 1);
    errno = 42;
    us_wakeup_loop(loop);
    CHECK_EQUAL(errno, 42);
    us_loop_step(loop);
    CHECK_EQUAL(wakeups, 1);
    us_loop_free(loop);
}

static void kicks_of_the_loop_itself_are_silent(void) {
    faults_reset();
    open_loop(&faults.sys);
    context = make_context(0);
    struct us_socket_t *s;
    int fd = unix_client(&s);
    fail_next(CALL_EPOLL_CTL, ENOMEM, 0);
    us_socket_read_enabled(s, 0);
    CHECK(readable_now(us_loop_fd(loop)));
    us_loop_step(loop);
    CHECK_EQUAL(seen.closed, 1);
    CHECK_EQUAL(wakeups, 0);
    us_wakeup_loop(loop);
    us_loop_step(loop);
    CHECK_EQUAL(wakeups, 1);
    us_socket_context_free(0, context);
    us_loop_free(loop);
    close(fd);
}

int main(void) {
    alarm(120);
    RUN(several_before_a_step_give_one);
    RUN(none_is_lost_between_threads);
    RUN(a_blocked_run_is_woken);
    RUN(an_interrupted_wakeup_is_repeated);
    RUN(kicks_of_the_loop_itself_are_silent);
    return check_result();
}
