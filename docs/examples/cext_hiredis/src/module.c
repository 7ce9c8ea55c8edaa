/* The module redis_keys: what Python sees. */
#define PY_SSIZE_T_CLEAN
#include <corkbind_capsule.h>

#include "keys.h"
#include "redis_loop.h"

static PyObject *serve(PyObject *module, PyObject *arguments)
{
    unsigned int app;
    const char *address;
    (void) module;
    if (!PyArg_ParseTuple(arguments, "Is:serve", &app, &address)) {
        return NULL;
    }
    int result = keys_serve(app, address);
    if (result == CK_NOMEM) {
        return PyErr_NoMemory();
    }
    if (result == CK_THREAD || result == CK_EXPIRED) {
        return PyErr_Format(PyExc_RuntimeError, result == CK_THREAD ? "the app is open in another thread" : "the app has ended");
    }
    if (result < 0) {
        return PyErr_Format(PyExc_RuntimeError, "the routes cannot be added (%d)", result);
    }
    Py_RETURN_NONE;
}

static PyObject *stats(PyObject *module, PyObject *nothing)
{
    struct keys_stats counted = keys_counted();
    (void) module;
    (void) nothing;
    return Py_BuildValue("{s:i,s:l,s:l,s:l,s:l}", "connected", counted.connected, "waiting", counted.waiting, "asked",
        counted.asked, "unanswered", counted.unanswered, "connects", counted.connects);
}

static PyMethodDef methods[] = {
    {"serve", serve, METH_VARARGS, "serve(app_handle, address): add the routes to an app; address is a Unix path or host:port."},
    {"stats", stats, METH_NOARGS, "Return what has been counted, over all apps."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "redis_keys", "Answer requests of a corkbind app from Redis, in C.", -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_redis_keys(void)
{
    ck = corkbind_import();
    return ck ? PyModule_Create(&definition) : NULL;
}
