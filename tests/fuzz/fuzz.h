/* What every fuzz target shares: demands that end the program, an input that is
 * taken apart from its front, and choices that the input makes. */
#ifndef CK_FUZZ_H
#define CK_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Ends the program unless the condition holds: that is what a fuzzer calls a finding. */
#define DEMAND(condition) ((condition) ? (void)0 : fuzz_failed(#condition, __FILE__, __LINE__))

_Noreturn static inline void fuzz_failed(const char *condition, const char *file, int line)
{
    fprintf(stderr, "%s:%d: does not hold: %s\n", file, line, condition);
    abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What is left of an input. */
typedef struct fuzz_input {
    const uint8_t *data;
    size_t length;
} fuzz_input;

/* Returns the next byte, 0 when there is none. */
static inline uint8_t fuzz_byte(fuzz_input *input)
{
    if (input->length == 0)
        return 0;
    input->length--;
    return *input->data++;
}

/* Returns up to `most` next bytes, borrowed. */
static inline const char *fuzz_bytes(fuzz_input *input, size_t most, size_t *length)
{
    const uint8_t *data = input->data;
    *length = most < input->length ? most : input->length;
    input->length -= *length;
    if (*length > 0)
        input->data += *length;
    return (const char *)data;
}

/* Returns a text whose length is in the byte before it. */
static inline const char *fuzz_text(fuzz_input *input, size_t *length)
{
    size_t most = fuzz_byte(input);
    return fuzz_bytes(input, most, length);
}

/* Copies bytes to memory of exactly their length, so that a read past them is seen. */
static inline char *fuzz_copy(const char *data, size_t length)
{
    char *copy = malloc(length > 0 ? length : 1);
    DEMAND(copy != NULL);
    if (length > 0)
        memcpy(copy, data, length);
    return copy;
}

/* Numbers that follow from a seed. */
static inline uint32_t fuzz_draw(uint64_t *state, uint32_t below)
{
    *state = *state * 6364136223846793005U + 1442695040888963407U;
    return (uint32_t)(*state >> 33) % below;
}

/* Whether an input is of the fourth that costly targets run twice. */
static inline bool fuzz_is_repeated(const uint8_t *input, size_t size)
{
    size_t sum = size;
    for (size_t i = 0; i < size; i++)
        sum += input[i];
    return sum % 4 == 0;
}

static inline bool fuzz_same(const char *a, size_t a_length, const char *b, size_t b_length)
{
    return a_length == b_length && (a_length == 0 || memcmp(a, b, a_length) == 0);
}

#endif
