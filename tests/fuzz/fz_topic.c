/* Fuzzes topics over a server in memory. An input is a byte that chooses what is asked, then
 * a few bytes for each call. Either the calls are the model's too, which has to agree about
 * every answer, every byte that a client hears, and what was dropped; or handlers make
 * calls of their own inside of each other, memory fails, and all of it has to come back. */
#include "fuzz.h"
#include "topic_wild.h"

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
    fuzz_input in = {input, size};
    unsigned how = fuzz_byte(&in);
    if (how & 0x80) {
        run_wild(in.data, in.length, how);
    } else {
        run_topic_model(in.data, in.length);
    }
    DEMAND(checks_failed == 0);
    return 0;
}
