/* Calling the core without ctypes: its hottest entries as functions of the interpreter's own kind.
 *
 * Theory of operation. A call through ctypes costs 150 ns and more, and takes what it
 * is given: a str where bytes belong would be read as something else. The interpreter
 * makes functions of C's from a small description (PyMethodDef, part of its stable
 * ABI), which cost a third and are handed the objects themselves. So each entry here
 * has a wrapper that checks what it is given and makes an int of what comes back.
 *
 * The wrappers have five shapes, by the arguments of the entry; a length is given
 * beside its bytes, as to the entry, and must lie within them. */
#include <limits.h>
#include <stdbool.h>
#include <string.h>

#include "python.h"

enum { METHOD_FAST = 0x80, METHOD_NOTHING = 0x04, METHOD_ONE = 0x08 }; /* METH_FASTCALL, METH_NOARGS, METH_O */

typedef void *(*method)(void *self, void *argument);
typedef void *(*fast_method)(void *self, void *const *arguments, ptrdiff_t count);

/* PyMethodDef */
typedef struct method_definition {
    const char *name;
    method function;
    int flags;
    const char *doc;
} method_definition;

#define TOO_LONG "a message has 2**31 - 1 bytes at most"

/* ---- Arguments ---- */

static void *wrong(const char *what)
{
    const ck_python *py = ck_python_bound();
    py->error_set(py->value_error, what);
    return NULL;
}

static bool take_number(void *object, long least, long most, long *value)
{
    const ck_python *py = ck_python_bound();
    *value = py->integer_value(object);
    if (*value == -1 && py->error_occurred()) {
        return false;
    }
    return (*value >= least && *value <= most) || wrong("a number that the core cannot take");
}

static bool take_handle(void *object, uint32_t *handle)
{
    long value;
    bool taken = take_number(object, 0, (long) UINT32_MAX, &value);
    *handle = (uint32_t) value;
    return taken;
}

static bool take_int(void *object, int *number)
{
    long value;
    bool taken = take_number(object, INT_MIN, INT_MAX, &value);
    *number = (int) value;
    return taken;
}

static bool take_bytes(void *object, char **data, ptrdiff_t *length)
{
    return ck_python_bound()->bytes_view(object, data, length) == 0;
}

/* Bytes, and how many of them count. */
static bool take_text(void *const *arguments, char **data, int *length)
{
    ptrdiff_t size;
    if (!take_bytes(arguments[0], data, &size) || !take_int(arguments[1], length)) {
        return false;
    }
    return (*length >= 0 && *length <= size) || wrong("a length that is not within the bytes");
}

static bool counted(ptrdiff_t count, ptrdiff_t wanted)
{
    return count == wanted || wrong("not as many arguments as the entry takes");
}

static void *number(long value)
{
    return ck_python_bound()->integer(value);
}

/* ---- Shapes ---- */

#define OF_NOTHING(entry)                                                                                      \
    static void *call_##entry(void *self, void *argument)                                                      \
    {                                                                                                          \
        (void) self;                                                                                           \
        (void) argument;                                                                                       \
        return number((long) entry());                                                                         \
    }

#define OF_HANDLE(entry)                                                                                       \
    static void *call_##entry(void *self, void *argument)                                                      \
    {                                                                                                          \
        uint32_t handle;                                                                                       \
        (void) self;                                                                                           \
        return take_handle(argument, &handle) ? number(entry(handle)) : NULL;                                  \
    }

#define OBJECT_OF_HANDLE(entry)                                                                                \
    static void *call_##entry(void *self, void *argument)                                                      \
    {                                                                                                          \
        uint32_t handle;                                                                                       \
        (void) self;                                                                                           \
        return take_handle(argument, &handle) ? entry(handle) : NULL;                                          \
    }

/* The rest take `count` arguments; `taken` takes them into what is declared before. */
#define OF_SEVERAL(entry, count, declared, taken, result)                                                      \
    static void *call_##entry(void *self, void *const *a, ptrdiff_t given)                                     \
    {                                                                                                          \
        uint32_t handle;                                                                                       \
        declared;                                                                                              \
        (void) self;                                                                                           \
        return counted(given, count) && take_handle(a[0], &handle) && (taken) ? (result) : NULL;               \
    }

#define OF_HANDLE_AND_NUMBER(entry, result)                                                                    \
    OF_SEVERAL(entry, 2, int value, take_int(a[1], &value), result(entry(handle, value)))

#define OF_HANDLE_AND_TEXT(entry, result)                                                                      \
    OF_SEVERAL(entry, 3, char *data; int length, take_text(a + 1, &data, &length), result(entry(handle, data, length)))

#define OF_HANDLE_TEXT_AND_NUMBER(entry)                                                                       \
    OF_SEVERAL(entry, 4, char *data; int length; int value,                                                    \
               take_text(a + 1, &data, &length) && take_int(a[3], &value), number(entry(handle, data, length, value)))

OF_NOTHING(ck_loop_step)
OF_NOTHING(ck_corked)
OF_HANDLE(ck_keep)
OF_HANDLE(ck_release)
OF_HANDLE(ck_alive)
OF_HANDLE(ck_cork)
OF_HANDLE(ck_uncork)
OF_HANDLE(ck_flush)
OF_HANDLE(ck_has_started)
OF_HANDLE(ck_want_writable)
OF_HANDLE(ck_fail)
OF_HANDLE(ck_ws_cork)
OF_HANDLE(ck_ws_uncork)
OF_HANDLE(ck_ws_flush)
OF_HANDLE(ck_ws_buffered)
OF_HANDLE(ck_udp_buffered)
OF_HANDLE(ck_udp_cork)
OF_HANDLE(ck_udp_uncork)
OF_HANDLE(ck_udp_corks)
OF_HANDLE(ck_udp_flush)
OF_HANDLE(ck_socket_cork)
OF_HANDLE(ck_socket_uncork)
OF_HANDLE(ck_socket_flush)
OF_HANDLE(ck_socket_buffered)
OBJECT_OF_HANDLE(ck_py_method)
OBJECT_OF_HANDLE(ck_py_target)
OBJECT_OF_HANDLE(ck_py_path)
OBJECT_OF_HANDLE(ck_py_query)
OBJECT_OF_HANDLE(ck_py_host)
OBJECT_OF_HANDLE(ck_py_headers)
OBJECT_OF_HANDLE(ck_py_body_take)
OF_HANDLE_AND_NUMBER(ck_status, number)
OF_HANDLE_AND_NUMBER(ck_body_ask, number)
OF_HANDLE_AND_NUMBER(ck_ws_pause, number)
OF_HANDLE_AND_NUMBER(ck_py_parameter, )
OF_HANDLE_AND_TEXT(ck_status_line, number)
OF_HANDLE_AND_TEXT(ck_write, number)
OF_HANDLE_AND_TEXT(ck_socket_write, number)
OF_HANDLE_AND_TEXT(ck_py_header, )
OF_HANDLE_TEXT_AND_NUMBER(ck_end)
OF_HANDLE_TEXT_AND_NUMBER(ck_ws_send)

OF_SEVERAL(ck_end_bytes, 2, char *data; ptrdiff_t size, take_bytes(a[1], &data, &size), number(ck_end_bytes(handle, data)))

OF_SEVERAL(ck_header_bytes, 3, char *name; char *value; ptrdiff_t size,
           take_bytes(a[1], &name, &size) && take_bytes(a[2], &value, &size),
           number(ck_header_bytes(handle, name, value)))

/* ---- Messages, of the objects that the application gives ---- */

/* Of bytes. */
static void *call_ck_ws_send_bytes(void *self, void *const *a, ptrdiff_t given)
{
    uint32_t handle;
    char *data;
    ptrdiff_t size;
    int first;
    (void) self;
    if (!counted(given, 3) || !take_handle(a[0], &handle) || !take_bytes(a[1], &data, &size) || !take_int(a[2], &first)) {
        return NULL;
    }
    return size <= INT_MAX ? number(ck_ws_send(handle, data, (int) size, first)) : wrong(TOO_LONG);
}

/* Of a str, whose UTF-8 the interpreter keeps with it: for ASCII nothing is copied. */
static void *call_ck_ws_send_text(void *self, void *const *a, ptrdiff_t given)
{
    uint32_t handle;
    ptrdiff_t size;
    int first;
    (void) self;
    if (!counted(given, 3) || !take_handle(a[0], &handle) || !take_int(a[2], &first)) {
        return NULL;
    }
    const char *data = ck_python_bound()->text_view(a[1], &size);
    if (!data) {
        return NULL;
    }
    return size <= INT_MAX ? number(ck_ws_send(handle, data, (int) size, first)) : wrong(TOO_LONG);
}

/* A datagram of bytes, to an address of a str and a number. */
static void *call_ck_udp_send_to(void *self, void *const *a, ptrdiff_t given)
{
    uint32_t handle;
    char *data;
    ptrdiff_t size, host_size;
    int port;
    (void) self;
    if (!counted(given, 4) || !take_handle(a[0], &handle) || !take_bytes(a[1], &data, &size) || !take_int(a[3], &port)) {
        return NULL;
    }
    const char *host = ck_python_bound()->text_view(a[2], &host_size);
    if (!host) {
        return NULL;
    }
    if (strlen(host) != (size_t) host_size) { /* a NUL in it would end it */
        return number(CK_VALUE);
    }
    return number(ck_udp_send(handle, data, size <= INT_MAX ? (int) size : INT_MAX, host, port));
}

OF_SEVERAL(ck_ws_close, 4, int code; char *reason; int length,
           take_int(a[1], &code) && take_text(a + 2, &reason, &length),
           number(ck_ws_close(handle, code, reason, length)))

OF_SEVERAL(ck_send, 7, int status; char *type; int type_length; char *data; int length; int flags,
           take_int(a[1], &status) && take_text(a + 2, &type, &type_length) && take_text(a + 4, &data, &length)
               && take_int(a[6], &flags),
           number(ck_send(handle, status, type, type_length, data, length, flags)))

/* ---- The functions ---- */

#define NONE(entry) {#entry, call_##entry, METHOD_NOTHING, NULL}
#define ONE(entry) {#entry, call_##entry, METHOD_ONE, NULL}
#define SOME(entry) {#entry, (method) (void (*)(void)) (fast_method) call_##entry, METHOD_FAST, NULL}

static method_definition definitions[] = {
    NONE(ck_loop_step), NONE(ck_corked),
    ONE(ck_keep), ONE(ck_release), ONE(ck_alive), ONE(ck_cork), ONE(ck_uncork), ONE(ck_flush), ONE(ck_has_started),
    ONE(ck_want_writable), ONE(ck_fail), ONE(ck_ws_cork), ONE(ck_ws_uncork), ONE(ck_ws_flush), ONE(ck_ws_buffered),
    ONE(ck_udp_buffered), ONE(ck_udp_cork), ONE(ck_udp_uncork), ONE(ck_udp_corks),
    ONE(ck_udp_flush), SOME(ck_udp_send_to),
    ONE(ck_py_method), ONE(ck_py_target), ONE(ck_py_path), ONE(ck_py_query), ONE(ck_py_host), ONE(ck_py_headers),
    ONE(ck_py_body_take), ONE(ck_socket_cork), ONE(ck_socket_uncork), ONE(ck_socket_flush), ONE(ck_socket_buffered),
    SOME(ck_status), SOME(ck_body_ask), SOME(ck_ws_pause), SOME(ck_py_parameter), SOME(ck_status_line), SOME(ck_write),
    SOME(ck_py_header), SOME(ck_end), SOME(ck_ws_send), SOME(ck_ws_send_bytes), SOME(ck_ws_send_text),
    SOME(ck_socket_write), SOME(ck_end_bytes), SOME(ck_header_bytes), SOME(ck_ws_close), SOME(ck_send),
};

int ck_python_functions(void *list)
{
    const ck_python *py = ck_python_bound();
    for (size_t i = 0; i < sizeof(definitions) / sizeof(definitions[0]); i++) {
        void *function = py->function_new(&definitions[i], NULL, NULL);
        if (!function) {
            return -1;
        }
        int failed = py->list_append(list, function);
        py->decref(function);
        if (failed) {
            return -1;
        }
    }
    return 0;
}
