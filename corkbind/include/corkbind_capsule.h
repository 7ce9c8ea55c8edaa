/* For extensions of Python: the functions of corkbind, without linking the library.
 *
 *     static const ck_api *ck;
 *     ...
 *     ck = corkbind_import();            // in the module's init; NULL: an ImportError is set
 *     ...
 *     ck->ck_end(exchange, "hello", 5, 0);
 *
 * Whatever calls a function of the table, and whatever corkbind calls, holds the GIL. A callback
 * leaves no exception behind. */
#ifndef CORKBIND_CAPSULE_H
#define CORKBIND_CAPSULE_H

#include <Python.h>

#include <corkbind_api.h>

#define CORKBIND_CAPSULE "corkbind._C_API"

/* Returns the table of the library that Python has loaded, for ever; imports corkbind if need be.
 * NULL with ImportError: there is none, or it has another ABI than this was compiled for. */
static inline const ck_api *corkbind_import(void)
{
    const ck_api *api = (const ck_api *) PyCapsule_Import(CORKBIND_CAPSULE, 0);
    if (!api) {
        if (!PyErr_ExceptionMatches(PyExc_ImportError)) {
            PyErr_Clear();
            PyErr_SetString(PyExc_ImportError, "corkbind has no " CORKBIND_CAPSULE ": it is too old for this extension");
        }
        return NULL;
    }
    if (api->abi_version != (uint32_t) CK_ABI_VERSION) {
        PyErr_Format(PyExc_ImportError,
            "this extension was compiled for ABI version %d of corkbind, and the corkbind that is installed has version %u: "
            "compile it again",
            (int) CK_ABI_VERSION, (unsigned int) api->abi_version);
        return NULL;
    }
    if (api->size < sizeof(ck_api)) {
        PyErr_Format(PyExc_ImportError,
            "this extension was compiled for a corkbind whose table of functions has %u bytes, and that of the corkbind that "
            "is installed has %u: install a newer one",
            (unsigned int) sizeof(ck_api), (unsigned int) api->size);
        return NULL;
    }
    return api;
}

#endif
