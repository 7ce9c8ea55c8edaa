/* Host names: which are some, and which pattern one fits. */
#include "libusockets_ext.h"

#include <strings.h>

enum { NAME_MOST = 253, LABEL_MOST = 63 /* RFC 1035 S2.3.4 */ };

/* Bytes of a name without the dot that may end it. */
static size_t bare_length(const char *name, size_t length) {
    return length && name[length - 1] == '.' ? length - 1 : length;
}

unsigned int us_hostname_fit(const char *pattern, size_t pattern_length, const char *name, size_t name_length) {
    const char *pattern_end = pattern + bare_length(pattern, pattern_length), *end = name + bare_length(name, name_length);
    unsigned score = 1;
    for (;;) {
        size_t wanted = 0, length = 0;
        while (pattern + wanted < pattern_end && pattern[wanted] != '.') wanted++;
        while (name + length < end && name[length] != '.') length++;
        int any = wanted == 1 && pattern[0] == '*';
        if (!length || (!any && (wanted != length || strncasecmp(pattern, name, length)))) return 0;
        score = (score & 0x40000000) ? score | !any : score << 1 | !any;
        pattern += wanted, name += length;
        if (pattern == pattern_end || name == end) return pattern == pattern_end && name == end ? score : 0;
        pattern++, name++;
    }
}

static int is_digit(char c) {
    return c >= '0' && c <= '9';
}

static int is_in_label(char c) {
    return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '_';
}

int us_hostname_valid(const char *name, size_t length) {
    size_t label = 0, digits = 0;
    length = bare_length(name, length);
    if (!length || length > NAME_MOST) return 0;
    for (size_t i = 0; i < length; i++) {
        if (name[i] == '.') {
            if (!label) return 0;
            label = digits = 0;
        } else {
            if (!is_in_label(name[i]) || ++label > LABEL_MOST) return 0;
            digits += (size_t) is_digit(name[i]);
        }
    }
    return label > digits;
}
