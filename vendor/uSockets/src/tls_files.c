/* The files of a TLS context: certificates, keys, authorities, DH parameters; and ciphers.
 * What cannot be used is named, with its cause, when the context is made. */
#include "tls_openssl.h"

#ifndef LIBUS_NO_SSL

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <string.h>

enum { AUTHORITIES_MOST = 8 }; /* between a client's certificate and one that is trusted */

struct passphrase {
    const char *given;
    int asked;
};

/* Without this OpenSSL would ask at the terminal. */
static int give_passphrase(char *to, int size, int writing, void *pointer) {
    struct passphrase *passphrase = pointer;
    (void) writing;
    passphrase->asked = 1;
    if (!passphrase->given) return -1;
    size_t length = strlen(passphrase->given);
    if (length > (size_t) size) return -1;
    memcpy(to, passphrase->given, length);
    return (int) length;
}

static int check_readable(const char *file) {
    struct stat status;
    FILE *opened = fopen(file, "re");
    if (!opened) return us_internal_tls_refuse("%s: %s", file, strerror(errno));
    int directory = fstat(fileno(opened), &status) == 0 && S_ISDIR(status.st_mode);
    fclose(opened);
    return directory ? us_internal_tls_refuse("%s: %s", file, strerror(EISDIR)) : 0;
}

static int say_date(const char *file, const char *what, const ASN1_TIME *date) {
    char text[64] = "an unknown date";
    BIO *bio = BIO_new(BIO_s_mem());
    if (bio && ASN1_TIME_print(bio, date)) {
        int length = BIO_read(bio, text, sizeof text - 1);
        text[length > 0 ? length : 0] = 0;
    }
    BIO_free(bio);
    return us_internal_tls_refuse("%s: the certificate %s %s", file, what, text);
}

static int check_dates(SSL_CTX *context, const char *file) {
    const X509 *certificate = SSL_CTX_get0_certificate(context);
    if (!certificate) return us_internal_tls_refuse("%s: no certificate in it", file);
    if (X509_cmp_current_time(X509_get0_notAfter(certificate)) < 0) {
        return say_date(file, "expired on", X509_get0_notAfter(certificate));
    }
    if (X509_cmp_current_time(X509_get0_notBefore(certificate)) > 0) {
        return say_date(file, "is not valid before", X509_get0_notBefore(certificate));
    }
    return 0;
}

static int use_certificate(SSL_CTX *context, const char *file) {
    if (check_readable(file)) return -1;
    if (SSL_CTX_use_certificate_chain_file(context, file) != 1) {
        return us_internal_tls_refuse("%s: no certificate in PEM form can be read: %s", file, us_internal_tls_queued_reason());
    }
    return check_dates(context, file);
}

static int use_key(SSL_CTX *context, const char *file, const char *certificate, struct passphrase *passphrase) {
    if (check_readable(file)) return -1;
    if (SSL_CTX_use_PrivateKey_file(context, file, SSL_FILETYPE_PEM) != 1) {
        unsigned long last = ERR_peek_last_error();
        if (ERR_GET_LIB(last) == ERR_LIB_X509 && ERR_GET_REASON(last) == X509_R_KEY_VALUES_MISMATCH) {
            return us_internal_tls_refuse("%s: the private key does not belong to the certificate in %s", file, certificate);
        }
        if (passphrase->asked && !passphrase->given) return us_internal_tls_refuse("%s: the private key is encrypted, and no passphrase is given", file);
        if (passphrase->asked) return us_internal_tls_refuse("%s: the passphrase does not open the private key", file);
        return us_internal_tls_refuse("%s: no private key in PEM form can be read: %s", file, us_internal_tls_queued_reason());
    }
    if (SSL_CTX_check_private_key(context) != 1) {
        return us_internal_tls_refuse("%s: the private key does not belong to the certificate in %s", file, certificate);
    }
    return 0;
}

/* Clients have to show a certificate of one of these authorities. */
static int use_authorities(SSL_CTX *context, const char *file) {
    if (check_readable(file)) return -1;
    STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(file);
    if (!names || SSL_CTX_load_verify_locations(context, file, NULL) != 1) {
        sk_X509_NAME_pop_free(names, X509_NAME_free);
        return us_internal_tls_refuse("%s: no certificate of an authority in PEM form can be read: %s", file, us_internal_tls_queued_reason());
    }
    SSL_CTX_set_client_CA_list(context, names);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    SSL_CTX_set_verify_depth(context, AUTHORITIES_MOST);
    return 0;
}

static int use_dh_parameters(SSL_CTX *context, const char *file) {
    if (check_readable(file)) return -1;
    BIO *bio = BIO_new_file(file, "r");
    int used = 0;
#if OPENSSL_VERSION_NUMBER >= 0x30000000L
    EVP_PKEY *parameters = bio ? PEM_read_bio_Parameters(bio, NULL) : NULL;
    used = parameters && EVP_PKEY_is_a(parameters, "DH") && SSL_CTX_set0_tmp_dh_pkey(context, parameters) == 1;
    if (!used) EVP_PKEY_free(parameters);
#else
    DH *parameters = bio ? PEM_read_bio_DHparams(bio, NULL, NULL, NULL) : NULL;
    used = parameters && SSL_CTX_set_tmp_dh(context, parameters) == 1;
    DH_free(parameters);
#endif
    BIO_free(bio);
    return used ? 0 : us_internal_tls_refuse("%s: no DH parameters in PEM form can be used: %s", file, us_internal_tls_queued_reason());
}

static int use_ciphers(SSL_CTX *context, const char *ciphers) {
    int of_1_3 = strncmp(ciphers, "TLS_", 4) == 0;
    int taken = of_1_3 ? SSL_CTX_set_ciphersuites(context, ciphers) : SSL_CTX_set_cipher_list(context, ciphers);
    return taken == 1 ? 0 : us_internal_tls_refuse("ssl_ciphers %.200s: %s", ciphers, us_internal_tls_queued_reason());
}

static int use_each(SSL_CTX *context, const struct us_socket_context_options_t *options, struct passphrase *passphrase) {
    const char *certificate = options->cert_file_name, *key = options->key_file_name;
    if (certificate && !key) return us_internal_tls_refuse("%s: a certificate without a private key: key_file_name is not given", certificate);
    if (key && !certificate) return us_internal_tls_refuse("%s: a private key without a certificate: cert_file_name is not given", key);
    if (certificate && (use_certificate(context, certificate) || use_key(context, key, certificate, passphrase))) return -1;
    if (options->ca_file_name && use_authorities(context, options->ca_file_name)) return -1;
    if (options->dh_params_file_name && use_dh_parameters(context, options->dh_params_file_name)) return -1;
    return options->ssl_ciphers ? use_ciphers(context, options->ssl_ciphers) : 0;
}

int us_internal_tls_use_options(SSL_CTX *context, const struct us_socket_context_options_t *options) {
    struct passphrase passphrase = {.given = options->passphrase};
    SSL_CTX_set_default_passwd_cb(context, give_passphrase);
    SSL_CTX_set_default_passwd_cb_userdata(context, &passphrase);
    int failed = use_each(context, options, &passphrase);
    SSL_CTX_set_default_passwd_cb_userdata(context, NULL);
    SSL_CTX_set_default_passwd_cb(context, NULL);
    return failed;
}

#endif
