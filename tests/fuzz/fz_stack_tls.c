/* Fuzzes what fz_stack.c does, over TLS: the same inputs, the same rules for the plaintext,
 * and OpenSSL's error queue is empty whenever the server receives or sends. */
#define OVER_TLS
#include "counted.h"
#include "tls_pipe.h"

int run_input(const uint8_t *input, size_t size);

#define LLVMFuzzerTestOneInput run_input
#include "fz_stack.c"
#undef LLVMFuzzerTestOneInput

/* A first run without operations shakes hands: OpenSSL makes things at their first use. */
int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
    static bool warm;
    if (!warm)
        (void)run_input((const uint8_t *)"", 0);
    warm = true;
    return run_input(input, size);
}
