/* An extension for the tests: routes answered in C, a pipe and a socket of its own on
 * the app's loop, and calls with handles that are wrong. */
#define PY_SSIZE_T_CLEAN
#include <corkbind_capsule.h>

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

enum { WAITING_MAX = 64 };

static const ck_api *ck;

/* What the extension has on one app; freed at the app's end. */
struct state {
    uint32_t app;
    struct us_loop_t *loop;
    struct us_poll_t *poll;
    struct us_timer_t *timer;
    struct us_socket_context_t *context;
    int pipe[2];
    uint32_t waiting[WAITING_MAX];
    int waiting_count;
};

static struct state *newest;
static long aborted, ended;

/* ---- Routes ---- */

static void on_answer(uint32_t exchange, void *user)
{
    const char *query;
    int length = ck->ck_query_value(exchange, &query);
    (void) user;
    ck->ck_status(exchange, 201);
    ck->ck_header(exchange, "X-From", 6, "C", 1);
    ck->ck_write(exchange, "Hello, ", 7);
    ck->ck_end(exchange, query, length, 0);
}

static void on_aborted(uint32_t exchange, int reason, void *user)
{
    struct state *state = user;
    (void) reason;
    aborted++;
    for (int i = 0; i < state->waiting_count; i++) {
        if (state->waiting[i] == exchange) {
            state->waiting[i] = state->waiting[--state->waiting_count];
        }
    }
    ck->ck_release(exchange);
}

static const ck_follower waiter = {.aborted = on_aborted};

static void on_wait(uint32_t exchange, void *user)
{
    struct state *state = user;
    if (state->waiting_count == WAITING_MAX || ck->ck_keep(exchange) != CK_OK) {
        ck->ck_send(exchange, 503, "", 0, "full", 4, 0);
        return;
    }
    ck->ck_follow(exchange, &waiter, state);
    state->waiting[state->waiting_count++] = exchange;
}

static void answer_waiting(struct state *state, const char *text)
{
    while (state->waiting_count) {
        uint32_t exchange = state->waiting[--state->waiting_count];
        ck->ck_header(exchange, "X-From", 6, "poll", 4);
        ck->ck_write(exchange, "from the ", 9);
        ck->ck_end(exchange, text, (int) strlen(text), 0);
        ck->ck_release(exchange);
    }
}

static void on_readable(struct us_poll_t *poll, int error, int events)
{
    char bytes[64];
    struct state *state = *(struct state **) ck->us_poll_ext(poll);
    (void) error;
    (void) events;
    if (read(state->pipe[0], bytes, sizeof(bytes)) > 0) {
        answer_waiting(state, "pipe");
    }
}

static void on_time(struct us_timer_t *timer)
{
    answer_waiting(*(struct state **) ck->us_timer_ext(timer), "timer");
}

static void on_body(uint32_t exchange, int event, void *user)
{
    const char *body;
    int64_t length = ck->ck_body_value(exchange, &body);
    (void) user;
    if (event == CK_BODY_COMPLETE) {
        ck->ck_end_large(exchange, body, (size_t) length, 0);
    }
    ck->ck_release(exchange);
}

static void on_body_gone(uint32_t exchange, int reason, void *user)
{
    (void) exchange;
    (void) reason;
    (void) user;
    aborted++;
}

static const ck_follower collector = {.body = on_body, .aborted = on_body_gone};

static void on_echo(uint32_t exchange, void *user)
{
    if (ck->ck_keep(exchange) == CK_OK && ck->ck_follow(exchange, &collector, user) == CK_OK
        && ck->ck_body_ask(exchange, CK_BODY_COLLECT) == 1) {
        on_body(exchange, CK_BODY_COMPLETE, user);
    }
}

/* ---- A socket of its own: asks another server, and hands on what it says ---- */

static struct us_socket_t *on_open(struct us_socket_t *s, int is_client, char *ip, int ip_length)
{
    (void) is_client;
    (void) ip;
    (void) ip_length;
    ck->us_socket_write(0, s, "what?\n", 6, 0);
    return s;
}

static struct us_socket_t *on_data(struct us_socket_t *s, char *data, int length)
{
    uint32_t exchange = *(uint32_t *) ck->us_socket_ext(0, s);
    ck->ck_cork(exchange);
    ck->ck_status(exchange, 200);
    ck->ck_write(exchange, "it said ", 8);
    ck->ck_end(exchange, data, length, 0);
    ck->ck_uncork(exchange);
    ck->ck_release(exchange);
    return ck->us_socket_close(0, s, 0, NULL);
}

static struct us_socket_t *on_refused(struct us_socket_t *s, int code)
{
    uint32_t exchange = *(uint32_t *) ck->us_socket_ext(0, s);
    (void) code;
    ck->ck_send(exchange, 502, "", 0, "", 0, 0);
    ck->ck_release(exchange);
    return s;
}

static void on_relay(uint32_t exchange, void *user)
{
    struct state *state = user;
    const char *port;
    char text[8] = "";
    int length = ck->ck_parameter_value(exchange, 0, &port);
    memcpy(text, port, length < 7 ? (size_t) length : 7);
    struct us_socket_t *s = ck->us_socket_context_connect(0, state->context, "127.0.0.1", atoi(text), NULL, 0, sizeof(exchange));
    if (!s || ck->ck_keep(exchange) != CK_OK) {
        ck->ck_send(exchange, 502, "", 0, "", 0, 0);
        return;
    }
    *(uint32_t *) ck->us_socket_ext(0, s) = exchange;
}

/* ---- Life ---- */

static void on_end(void *user)
{
    struct state *state = user;
    ck->us_poll_free(state->poll, state->loop);
    ck->us_timer_close(state->timer);
    ck->us_socket_context_free(0, state->context);
    close(state->pipe[0]);
    close(state->pipe[1]);
    newest = newest == state ? NULL : newest;
    PyMem_Free(state);
    ended++;
}

static int route(struct state *state, const char *method, const char *path, void (*handler)(uint32_t, void *))
{
    return ck->ck_app_route_native(state->app, ck->ck_method_id(method, strlen(method)), path, strlen(path), handler, state, -1);
}

static struct us_socket_context_t *make_context(struct us_loop_t *loop)
{
    struct us_socket_context_options_t plain = {0};
    struct us_socket_context_t *context = ck->us_create_socket_context(0, loop, 0, plain);
    ck->us_socket_context_on_open(0, context, on_open);
    ck->us_socket_context_on_data(0, context, on_data);
    ck->us_socket_context_on_connect_error(0, context, on_refused);
    return context;
}

static PyObject *serve(PyObject *module, PyObject *argument)
{
    (void) module;
    int error;
    uint32_t app = (uint32_t) PyLong_AsUnsignedLong(argument);
    struct us_loop_t *loop = ck->ck_app_loop(app, &error);
    if (!loop) {
        return PyErr_Format(PyExc_ValueError, "no app: %d", error);
    }
    struct state *state = PyMem_Calloc(1, sizeof(*state));
    if (!state || pipe2(state->pipe, O_NONBLOCK | O_CLOEXEC)) {
        PyMem_Free(state);
        return PyErr_NoMemory();
    }
    *state = (struct state) {.app = app, .loop = loop, .pipe = {state->pipe[0], state->pipe[1]}};
    state->context = make_context(loop);
    state->timer = ck->us_create_timer(loop, 1, sizeof(state));
    *(struct state **) ck->us_timer_ext(state->timer) = state;
    state->poll = ck->us_create_poll(loop, 1, sizeof(state));
    *(struct state **) ck->us_poll_ext(state->poll) = state;
    ck->us_poll_init(state->poll, state->pipe[0], 0);
    ck->us_poll_on_ready(state->poll, on_readable);
    ck->us_poll_start(state->poll, loop, LIBUS_SOCKET_READABLE);
    ck->ck_app_on_destroy(app, on_end, state);
    newest = state;
    int wrong = route(state, "GET", "/c", on_answer) || route(state, "GET", "/wait", on_wait)
        || route(state, "*", "/echo", on_echo) || route(state, "GET", "/relay/:port", on_relay);
    if (wrong) {
        return PyErr_Format(PyExc_RuntimeError, "the routes could not be added");
    }
    Py_RETURN_NONE;
}

static PyObject *ring(PyObject *module, PyObject *nothing)
{
    (void) module;
    (void) nothing;
    return PyLong_FromSsize_t(write(newest->pipe[1], "r", 1));
}

static PyObject *ring_by_timer(PyObject *module, PyObject *nothing)
{
    (void) module;
    (void) nothing;
    ck->us_timer_set(newest->timer, on_time, 1, 0);
    Py_RETURN_NONE;
}

/* Outside of any callback of the loop: what is packed leaves in the next iteration. */
static PyObject *answer_now(PyObject *module, PyObject *nothing)
{
    (void) module;
    (void) nothing;
    answer_waiting(newest, "outside");
    Py_RETURN_NONE;
}

static PyObject *counts(PyObject *module, PyObject *nothing)
{
    (void) module;
    (void) nothing;
    return Py_BuildValue("{s:i,s:l,s:l}", "waiting", newest ? newest->waiting_count : 0, "aborted", aborted, "ended", ended);
}

static PyObject *waiting(PyObject *module, PyObject *nothing)
{
    (void) module;
    (void) nothing;
    return PyLong_FromUnsignedLong(newest->waiting[0]);
}

/* Returns what a dozen entries say of a handle that should be refused. */
static PyObject *refusals(PyObject *module, PyObject *argument)
{
    (void) module;
    int loop_error, method, name_length;
    uint32_t handle = (uint32_t) PyLong_AsUnsignedLong(argument);
    const char *value, *name;
    char address[16];
    struct us_loop_t *loop = ck->ck_app_loop(handle, &loop_error);
    int results[] = {
        loop ? 0 : loop_error,
        ck->ck_app_on_destroy(handle, on_end, NULL),
        ck->ck_app_route_native(handle, 0, "/", 1, on_answer, NULL, -1),
        ck->ck_app_native_route(handle, 0, &method, &value),
        ck->ck_app_drain(handle),
        ck->ck_keep(handle),
        ck->ck_follow(handle, &waiter, NULL),
        ck->ck_status(handle, 200),
        ck->ck_header(handle, "A", 1, "b", 1),
        ck->ck_write(handle, "x", 1),
        ck->ck_end(handle, "x", 1, 0),
        ck->ck_send(handle, 200, "", 0, "x", 1, 0),
        ck->ck_cork(handle),
        ck->ck_uncork(handle),
        ck->ck_target_value(handle, &value),
        ck->ck_field_value(handle, 0, &name, &name_length, &value),
        ck->ck_parameter_value(handle, 0, &value),
        ck->ck_remote_address_value(handle, address),
        (int) ck->ck_body_value(handle, &value),
        ck->ck_body_ask(handle, CK_BODY_COLLECT),
        ck->ck_release(handle),
    };
    PyObject *list = PyList_New(0);
    for (size_t i = 0; list && i < sizeof(results) / sizeof(*results); i++) {
        PyObject *number = PyLong_FromLong(results[i]);
        if (!number || PyList_Append(list, number)) {
            Py_CLEAR(list);
        }
        Py_XDECREF(number);
    }
    return list;
}

static PyMethodDef methods[] = {
    {"serve", serve, METH_O, NULL},
    {"ring", ring, METH_NOARGS, NULL},
    {"ring_by_timer", ring_by_timer, METH_NOARGS, NULL},
    {"answer_now", answer_now, METH_NOARGS, NULL},
    {"counts", counts, METH_NOARGS, NULL},
    {"waiting", waiting, METH_NOARGS, NULL},
    {"refusals", refusals, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "plain", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_plain(void)
{
    ck = corkbind_import();
    return ck ? PyModule_Create(&definition) : NULL;
}
