/* Making Python objects, and calling Python, through the addresses that the interpreter gave. */
#ifndef CK_PYTHON_H
#define CK_PYTHON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "corkbind.h"

struct ck_exchange;
struct ck_loop;
struct us_socket_t;

/* Has a request served: by the loop's callback, or by the function that stands in
 * the list of entries, which saves a third of the way into Python. */
void ck_python_request(const struct ck_loop *loop, int route, uint32_t handle);

/* The same for what happens on a WebSocket; `payload` is a Python object, lent. */
void ck_python_websocket(const struct ck_loop *loop, uint32_t handle, int event, void *payload, int number);

/* The same for what happens on a socket. */
void ck_python_socket(const struct ck_loop *loop, uint32_t handle, int event, void *payload, int number);

/* Returns what ck_python_bind was given. */
const ck_python *ck_python_bound(void);

/* Returns the length of a bytes object, given where its bytes stand. */
size_t ck_python_length(const char *bytes);

/* Forgets the exception that is set, if one is. */
void ck_python_forget_error(void);

/* Sets the exception that says why a handle names nothing. Returns NULL. */
void *ck_python_stale(int error);

/* Return what TLS says of a socket, as ck_py_tls and ck_py_client_certificate (tls_facts.c). */
void *ck_py_facts(struct us_socket_t *s);
void *ck_py_certificate(struct ck_loop *loop, struct us_socket_t *s);

/* Calls the data callback with a bytes object of these bytes. Returns false when
 * there was no memory for one. */
bool ck_python_data(struct ck_exchange *exchange, const char *data, size_t length, bool last);

#endif
