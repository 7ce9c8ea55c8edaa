/* What the two sides have agreed to in the handshake, and the certificate that the peer has shown. */
#include "tls_openssl.h"

#ifndef LIBUS_NO_SSL

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

/* Returns NULL before the handshake is over. */
static SSL *agreed(struct us_socket_t *s) {
    SSL *ssl = s->tls ? s->tls->ssl : NULL;
    return ssl && SSL_is_init_finished(ssl) ? ssl : NULL;
}

int us_socket_tls_is_established(struct us_socket_t *s) {
    return agreed(s) != NULL;
}

const char *us_socket_tls_version(struct us_socket_t *s) {
    SSL *ssl = agreed(s);
    return ssl ? SSL_get_version(ssl) : NULL;
}

const char *us_socket_tls_cipher(struct us_socket_t *s) {
    SSL *ssl = agreed(s);
    return ssl ? SSL_get_cipher_name(ssl) : NULL;
}

const char *us_socket_tls_alpn(struct us_socket_t *s, int *length) {
    const unsigned char *protocol = NULL;
    unsigned int protocol_length = 0;
    SSL *ssl = agreed(s);
    if (ssl) SSL_get0_alpn_selected(ssl, &protocol, &protocol_length);
    *length = (int) protocol_length;
    return protocol_length ? (const char *) protocol : NULL;
}

int us_socket_tls_is_resumed(struct us_socket_t *s) {
    SSL *ssl = agreed(s);
    return ssl && SSL_session_reused(ssl);
}

int us_socket_peer_certificate(struct us_socket_t *s, char *to, int size) {
    SSL *ssl = agreed(s);
    X509 *certificate = ssl ? SSL_get_peer_certificate(ssl) : NULL;
    int length = certificate ? i2d_X509(certificate, NULL) : 0;
    unsigned char *at = (unsigned char *) to;
    if (length > 0 && length <= size) length = i2d_X509(certificate, &at);
    X509_free(certificate);
    ERR_clear_error();
    return length > 0 ? length : 0;
}

#endif
