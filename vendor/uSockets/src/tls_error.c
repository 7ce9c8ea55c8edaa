/* Why something of TLS could not be made, in words: of ours, or of OpenSSL's error queue. */
#include "tls_openssl.h"

#ifndef LIBUS_NO_SSL

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { REASON = 512 };

static _Thread_local char error_text[REASON] = "";

const char *us_tls_error(void) {
    return error_text;
}

void us_internal_tls_forget_error(void) {
    error_text[0] = 0;
}

int us_internal_tls_refuse(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error_text, sizeof error_text, format, arguments);
    va_end(arguments);
    ERR_clear_error();
    errno = EINVAL;
    return -1;
}

int us_internal_tls_out_of_memory(const char *what) {
    (void) us_internal_tls_refuse("%.200s%sout of memory", what, *what ? ": " : "");
    errno = ENOMEM;
    return -1;
}

/* What the oldest error in the queue says, which is the cause of the others. */
const char *us_internal_tls_queued_reason(void) {
    unsigned long error = ERR_peek_error();
    const char *reason = error ? ERR_reason_error_string(error) : NULL;
    int code = ERR_GET_REASON(error);
    /* OpenSSL 1.1.1 has no reason for some alerts of the peer, but names for all. */
    if (!reason && ERR_GET_LIB(error) == ERR_LIB_SSL && code > SSL_AD_REASON_OFFSET) reason = SSL_alert_desc_string_long(code - SSL_AD_REASON_OFFSET);
    if (!reason && error && ERR_GET_LIB(error) == ERR_LIB_SYS) reason = strerror(ERR_GET_REASON(error));
    return reason ? reason : "unknown error";
}

#endif
