/* The loop of a thread: opening, stepping, closing, and finding objects by handle. */
#include "loop.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "datagrams.h"
#include "deflate.h"
#include "http.h"
#include "raw.h"

/* A thread's loop is found without a call into the dynamic linker. */
static _Thread_local ck_loop *current __attribute__((tls_model("initial-exec")));

/* Loops by number: which thread a handle belongs to, and whom ck_loop_wake wakes. */
static pthread_mutex_t registry_lock = PTHREAD_MUTEX_INITIALIZER;
static ck_loop *registry[CK_LOOPS_MAX];
static uint32_t registry_serial;
/* Where the count of handles goes on in the next loop of a number: a handle of one that
 * is gone is stale in it. */
static uint32_t registry_handles[CK_LOOPS_MAX];

void *ck_alloc(ck_loop *loop, size_t size)
{
    return loop->sys->alloc(loop->sys, size);
}

void *ck_resize(ck_loop *loop, void *memory, size_t size)
{
    return loop->sys->resize(loop->sys, memory, size);
}

void ck_free(ck_loop *loop, void *memory)
{
    if (memory) {
        loop->sys->release(loop->sys, memory);
    }
}

ck_loop *ck_loop_current(void)
{
    return current;
}

static ck_loop *registered(uint32_t id)
{
    pthread_mutex_lock(&registry_lock);
    ck_loop *loop = registry[id];
    pthread_mutex_unlock(&registry_lock);
    return loop;
}

/* A loop of sockets is served by the thread that opened it alone. One in memory
 * has no thread: whoever has selected it, or holds a handle of it, may use it. */
static bool may_use(const ck_loop *loop)
{
    return loop->in_memory || loop->home == &current;
}

void *ck_loop_object(uint32_t handle, enum ck_kind kind, int *error)
{
    ck_loop *loop = current;
    uint32_t id = handle >> CK_HANDLE_BITS;
    if (!loop || id != loop->handles.loop_id) {
        loop = registered(id);
        if (!loop || !may_use(loop)) {
            *error = loop ? CK_THREAD : CK_EXPIRED;
            return NULL;
        }
    }
    void *object = ck_handle_get(&loop->handles, handle, kind);
    *error = object ? CK_OK : CK_EXPIRED;
    return object;
}

int ck_loop_select(uint32_t token)
{
    ck_loop *loop = token ? registered(token % CK_LOOPS_MAX) : NULL;
    if (token && (!loop || loop->token != token)) {
        return CK_EXPIRED;
    }
    if (loop && !may_use(loop)) {
        return CK_THREAD;
    }
    current = loop;
    return CK_OK;
}

/* ---- The Date field ---- */

static char *two_digits(char *at, int number)
{
    at[0] = (char) ('0' + number / 10);
    at[1] = (char) ('0' + number % 10);
    return at + 2;
}

/* Civil date from days since 1970-01-01, counting years from March so that the
 * leap day comes last. */
static void civil_from_days(int64_t days, int *year, int *month, int *day)
{
    days += 719468;
    int64_t era = days / 146097;
    int64_t day_of_era = days - era * 146097;
    int64_t year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t shifted_month = (5 * day_of_year + 2) / 153;
    *day = (int) (day_of_year - (153 * shifted_month + 2) / 5 + 1);
    *month = (int) (shifted_month < 10 ? shifted_month + 3 : shifted_month - 9);
    *year = (int) (year_of_era + era * 400 + (*month <= 2));
}

/* RFC 9110 S5.6.7, IMF-fixdate. */
static void format_date(char *out, int64_t seconds)
{
    static const char days[] = "ThuFriSatSunMonTueWed";
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    int year, month, day;
    int64_t whole_days = seconds / 86400;
    int rest = (int) (seconds % 86400);
    civil_from_days(whole_days, &year, &month, &day);
    char *at = out;
    memcpy(at, "Date: ", 6);
    memcpy(at + 6, days + 3 * (whole_days % 7), 3);
    memcpy(at + 9, ", ", 2);
    at = two_digits(at + 11, day);
    *at++ = ' ';
    memcpy(at, months + 3 * (month - 1), 3);
    at[3] = ' ';
    at = two_digits(at + 4, year / 100);
    at = two_digits(at, year % 100);
    *at++ = ' ';
    at = two_digits(at, rest / 3600);
    *at++ = ':';
    at = two_digits(at, rest / 60 % 60);
    *at++ = ':';
    at = two_digits(at, rest % 60);
    memcpy(at, " GMT\r\n", 7);
}

static void refresh_date(ck_loop *loop)
{
    int64_t now = loop->sys->wall_seconds(loop->sys);
    if (now != loop->date_second && now >= 0) {
        loop->date_second = now;
        format_date(loop->date, now);
    }
}

const char *ck_loop_date(ck_loop *loop)
{
    if (!loop->stepping) { /* a step refreshes it once, for all it answers */
        refresh_date(loop);
    }
    return loop->date;
}

/* ---- Connections to go on with ---- */

void ck_loop_need_step(ck_loop *loop)
{
    if (!loop->stepping && !loop->deferred) {
        loop->deferred = true;
        loop->callbacks.deferred();
    }
}

void ck_loop_resume_later(ck_loop *loop, ck_connection *connection)
{
    if (!connection->resuming) {
        connection->resuming = true;
        connection->resume_next = NULL;
        if (loop->resume_last) {
            loop->resume_last->resume_next = connection;
        } else {
            loop->resume_first = connection;
        }
        loop->resume_last = connection;
        ck_loop_need_step(loop);
    }
}

void ck_loop_resume_cancel(ck_loop *loop, ck_connection *connection)
{
    if (!connection->resuming) {
        return;
    }
    ck_connection *before = NULL;
    for (ck_connection *c = loop->resume_first; c != connection; c = c->resume_next) {
        before = c;
    }
    if (before) {
        before->resume_next = connection->resume_next;
    } else {
        loop->resume_first = connection->resume_next;
    }
    if (loop->resume_last == connection) {
        loop->resume_last = before;
    }
    connection->resuming = false;
}

/* Only those that were waiting at the start: one that goes back on the list
 * takes its turn after everybody else's events. */
static void resume_waiting(ck_loop *loop)
{
    ck_sockets_look_after(loop);
    ck_connection *last = loop->resume_last;
    while (loop->resume_first) {
        ck_connection *connection = loop->resume_first;
        bool was_last = connection == last;
        ck_loop_resume_cancel(loop, connection);
        ck_connection_resume(connection);
        if (was_last) {
            break;
        }
    }
}

/* ---- Opening and closing ---- */

static void on_nothing(struct us_loop_t *us)
{
    (void) us;
}

static int register_loop(ck_loop *loop)
{
    int id = -EAGAIN;
    pthread_mutex_lock(&registry_lock);
    for (int i = 1; i < CK_LOOPS_MAX; i++) {
        if (!registry[i]) {
            registry[i] = loop;
            id = i;
            loop->token = (++registry_serial << 5) | (uint32_t) i;
            break;
        }
    }
    pthread_mutex_unlock(&registry_lock);
    return id;
}

static void give_number_back(const ck_loop *loop)
{
    uint32_t id = loop->token % CK_LOOPS_MAX;
    registry[id] = NULL;
    if (loop->handles.next) { /* else it was never built */
        registry_handles[id] = loop->handles.next;
    }
}

static void unregister_loop(const ck_loop *loop)
{
    pthread_mutex_lock(&registry_lock);
    give_number_back(loop);
    pthread_mutex_unlock(&registry_lock);
}

static int build_loop(ck_loop *loop)
{
    int id = register_loop(loop);
    if (id < 0) {
        return id;
    }
    int error = ck_handles_init(&loop->handles, loop->sys, (uint32_t) id);
    if (error == 0) {
        loop->handles.next = registry_handles[id];
        loop->us = us_create_loop_on(loop->sys, on_nothing, on_nothing, on_nothing, 0);
        if (loop->us) {
            us_loop_integrate(loop->us);
            return 0;
        }
        error = errno ? -errno : -ENOMEM;
        unregister_loop(loop);
        ck_handles_free(&loop->handles);
        return error;
    }
    unregister_loop(loop);
    return error;
}

int ck_loop_create(struct us_sys_t *sys, const ck_callbacks *callbacks, ck_loop **made)
{
    ck_loop *loop = sys->alloc(sys, sizeof(*loop));
    if (!loop) {
        return -ENOMEM;
    }
    memset(loop, 0, sizeof(*loop));
    loop->sys = sys;
    loop->callbacks = *callbacks;
    loop->users = 1;
    loop->home = &current;
    loop->date_second = -1;
    format_date(loop->date, 0);
    int error = build_loop(loop);
    if (error != 0) {
        sys->release(sys, loop);
        return error;
    }
    *made = loop;
    return 0;
}

int ck_loop_open_on(struct us_sys_t *sys, const ck_callbacks *callbacks)
{
    if (!current) {
        return ck_loop_create(sys ? sys : us_sys_default(), callbacks, &current);
    }
    if (current->in_memory) { /* a loopback has the one app that it was made for */
        return -EBUSY;
    }
    current->users++;
    return 0;
}

int ck_loop_open(const ck_callbacks *callbacks)
{
    return ck_loop_open_on(NULL, callbacks);
}

static void destroy(const ck_slot *slot)
{
    if (slot->kind == CK_KIND_APP) {
        (void) ck_app_destroy(slot->handle);
    } else if (slot->kind == CK_KIND_CONTEXT) {
        (void) ck_context_close(slot->handle);
    } else if (slot->kind == CK_KIND_TIMER) {
        (void) ck_timer_close(slot->handle);
    } else if (slot->kind == CK_KIND_UDP) {
        ck_udp_end(slot->object);
    } else {
        ck_exchange_free(slot->object);
    }
}

static void destroy_all(ck_loop *loop, enum ck_kind kind)
{
    for (uint32_t i = 0; i <= loop->handles.mask; i++) {
        ck_slot slot = loop->handles.slots[i];
        if (slot.handle && slot.kind == (uint32_t) kind) {
            destroy(&slot);
        }
    }
}

void ck_loop_destroy(ck_loop *loop)
{
    ck_topics_deliver(loop);
    ck_corks_flush_all(loop, CK_FLUSH_CLOSE);
    loop->closing = true; /* what closing calls back opens nothing any more */
    destroy_all(loop, CK_KIND_CONTEXT);
    destroy_all(loop, CK_KIND_TIMER);
    destroy_all(loop, CK_KIND_APP);
    destroy_all(loop, CK_KIND_EXCHANGE);
    destroy_all(loop, CK_KIND_UDP);
    while (loop->spare_exchanges) {
        ck_exchange *exchange = loop->spare_exchanges;
        loop->spare_exchanges = exchange->next;
        ck_free(loop, exchange);
    }
    ck_corks_free(loop);
    ck_deflate_free_shared(loop);
    us_loop_free(loop->us);
    ck_datagrams_free(loop);
    unregister_loop(loop);
    ck_handles_free(&loop->handles);
    if (current == loop) {
        current = NULL;
    }
    ck_free(loop, loop);
}

int ck_loop_close(void)
{
    ck_loop *loop = current;
    if (!loop) {
        return CK_NOLOOP;
    }
    if (loop->in_memory || (loop->users == 1 && (loop->stepping || loop->telling))) { /* the former: ck_loopback_close */
        return CK_STATE;
    }
    if (--loop->users > 0) {
        return loop->users;
    }
    ck_loop_destroy(loop);
    return 0;
}

/* The parent goes on with the sockets, so nothing here may shut one down or
 * change the shared epoll set; descriptors are just closed, memory is left.
 * A loop in memory shares nothing with the parent, and goes on in the child. */
void ck_loop_forked(void)
{
    pthread_mutex_init(&registry_lock, NULL);
    for (int i = 0; i < CK_LOOPS_MAX; i++) {
        ck_loop *loop = registry[i];
        if (loop && !loop->in_memory) {
            if (loop->home == &current) {
                us_loop_abandon(loop->us); /* a callback that forked goes on in the child as well */
                close(us_loop_fd(loop->us));
            }
            give_number_back(loop); /* the parent's handles are stale in what the child opens */
        }
    }
    if (current && !current->in_memory) {
        current = NULL;
    }
}

/* ---- Driving ---- */

int ck_loop_fd(void)
{
    return current ? us_loop_fd(current->us) : CK_NOLOOP;
}

static void end_iteration(ck_loop *loop)
{
    loop->stepping = true;
    ck_topics_deliver(loop);
    ck_corks_flush_all(loop, CK_FLUSH_ITERATION);
    ck_datagrams_flush_all(loop);
    loop->stepping = false;
    if (loop->resume_first || loop->later_first || loop->due.first || ck_datagrams_wait(loop)) {
        ck_loop_need_step(loop);
    }
}

int ck_loop_step(void)
{
    ck_loop *loop = current;
    if (!loop) {
        return CK_NOLOOP;
    }
    if (loop->stepping) {
        return -EBUSY;
    }
    loop->stepping = true;
    loop->deferred = false;
    refresh_date(loop);
    /* First what other callbacks of the host loop have packed. */
    ck_topics_deliver(loop);
    ck_corks_flush_all(loop, CK_FLUSH_ITERATION);
    ck_datagrams_flush_all(loop);
    resume_waiting(loop);
    int events = us_loop_step(loop->us);
    resume_waiting(loop);
    end_iteration(loop);
    return events;
}

int ck_loop_sweep(void)
{
    ck_loop *loop = current;
    if (!loop) {
        return CK_NOLOOP;
    }
    bool stepping = loop->stepping;
    loop->stepping = true;
    us_loop_sweep(loop->us);
    loop->stepping = stepping;
    if (!stepping) { /* else the step that this is inside of does the rest */
        end_iteration(loop);
    }
    return CK_OK;
}

uint32_t ck_loop_token(void)
{
    return current ? current->token : 0;
}

int ck_loop_wake(uint32_t token)
{
    int result = CK_NOLOOP;
    pthread_mutex_lock(&registry_lock);
    ck_loop *loop = registry[token % CK_LOOPS_MAX];
    if (loop && loop->token == token) {
        us_wakeup_loop(loop->us);
        result = CK_OK;
    }
    pthread_mutex_unlock(&registry_lock);
    return result;
}

int ck_loop_handles(void)
{
    return current ? (int) current->handles.live : 0;
}

int ck_loop_alive(void)
{
    return current ? us_loop_alive(current->us) : CK_NOLOOP;
}

int ck_loop_busy(void)
{
    return current && (current->stepping || current->telling);
}

int64_t ck_loop_iteration(void)
{
    return current ? us_loop_iteration_number(current->us) : CK_NOLOOP;
}
