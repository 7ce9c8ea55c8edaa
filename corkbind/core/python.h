/* Making Python objects through the addresses that the interpreter gave. */
#ifndef CK_PYTHON_H
#define CK_PYTHON_H

#include <stdbool.h>
#include <stddef.h>

struct ck_exchange;

/* Calls the data callback with a bytes object of these bytes. Returns false when
 * there was no memory for one. */
bool ck_python_data(struct ck_exchange *exchange, const char *data, size_t length, bool last);

#endif
