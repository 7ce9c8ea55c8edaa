// An extension in C++: one route, and the rest as in C.
#include <corkbind_capsule.h>

#include <cstring>

static const ck_api *ck;

static void hello(uint32_t exchange, void *)
{
    static const char text[] = "from C++";
    ck->ck_end(exchange, text, static_cast<int>(sizeof(text)) - 1, 0);
}

static PyObject *serve(PyObject *, PyObject *handle)
{
    const uint32_t app = static_cast<uint32_t>(PyLong_AsUnsignedLong(handle));
    static const char path[] = "/cplusplus";
    return PyLong_FromLong(ck->ck_app_route_native(app, ck->ck_method_id("GET", 3), path, std::strlen(path), hello, nullptr, -1));
}

static PyMethodDef methods[] = {{"serve", serve, METH_O, nullptr}, {nullptr, nullptr, 0, nullptr}};
static PyModuleDef definition = {PyModuleDef_HEAD_INIT, "cplusplus", nullptr, -1, methods, nullptr, nullptr, nullptr, nullptr};

PyMODINIT_FUNC PyInit_cplusplus()
{
    ck = corkbind_import();
    return ck ? PyModule_Create(&definition) : nullptr;
}
