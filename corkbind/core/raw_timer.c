/* Timers, told through the callback of sockets. */
#include "raw.h"

static void ran_out(struct us_timer_t *us)
{
    const ck_raw_timer *timer = us_timer_ext(us);
    (void) ck_socket_tell(timer->loop, timer->handle, CK_SOCKET_TIMER, NULL, 0, 0);
}

uint32_t ck_timer_create(int fallthrough)
{
    ck_loop *loop = ck_loop_current();
    struct us_timer_t *us = loop && !loop->closing ? us_create_timer(loop->us, fallthrough, sizeof(ck_raw_timer)) : NULL;
    if (!us) {
        return 0;
    }
    ck_raw_timer *timer = us_timer_ext(us);
    *timer = (ck_raw_timer) {.loop = loop, .us = us};
    timer->handle = ck_handle_new(&loop->handles, CK_KIND_TIMER, timer);
    if (!timer->handle) {
        us_timer_close(us);
        return 0;
    }
    return timer->handle;
}

int ck_timer_set(uint32_t handle, int milliseconds, int repeat)
{
    int error;
    const ck_raw_timer *timer = ck_loop_object(handle, CK_KIND_TIMER, &error);
    if (timer) {
        us_timer_set(timer->us, ran_out, milliseconds, repeat);
    }
    return error;
}

int ck_timer_close(uint32_t handle)
{
    int error;
    const ck_raw_timer *timer = ck_loop_object(handle, CK_KIND_TIMER, &error);
    if (timer) {
        ck_handle_drop(&timer->loop->handles, handle);
        us_timer_close(timer->us);
    }
    return error;
}
