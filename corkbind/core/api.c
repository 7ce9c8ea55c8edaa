/* The table of functions that an extension uses without linking the library. */
#include "corkbind_api.h"

#define ENTRY(name) .name = name,

static const ck_api table = {.size = sizeof(ck_api), .abi_version = CK_ABI_VERSION, CK_API(ENTRY)};

const ck_api *ck_api_table(void)
{
    return &table;
}
