/* Walking through the list fields of an opening handshake. */
#ifndef CK_WS_FIELDS_H
#define CK_WS_FIELDS_H

#include "parser.h"

/* What is left of a field's value. */
struct rest {
    const char *at;
    size_t length;
};

static inline struct rest value_of(const ck_head *head, const char *data, int field)
{
    return (struct rest){data + head->fields[field].value_offset, head->fields[field].value_length};
}

/* Finds the next field of a name and moves on behind it. */
#define EACH_FIELD(head, data, name, field)                                                                    \
    int field = ck_head_find(head, data, name, sizeof(name) - 1, 0); field >= 0;                               \
    field = ck_head_find(head, data, name, sizeof(name) - 1, field + 1)

#endif
