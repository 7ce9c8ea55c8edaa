/* What a certificate says, as text. */
#include "tls.h"

#ifndef LIBUS_NO_SSL

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <string.h>

static int print_name(BIO *out, const X509_NAME *name) {
    /* RFC 4514, the last part first, in UTF-8. */
    return X509_NAME_print_ex(out, name, 0, XN_FLAG_RFC2253 & ~(unsigned long) ASN1_STRFLGS_ESC_MSB) >= 0;
}

static int print_common_name(BIO *out, const X509_NAME *name) {
    int last = -1;
    /* OpenSSL 1.1.1 asks for a name that is not const, and only reads it. */
    for (int at = -1; (at = X509_NAME_get_index_by_NID((X509_NAME *) (uintptr_t) name, NID_commonName, at)) >= 0;) last = at;
    if (last < 0) return 0;
    unsigned char *text = NULL;
    int length = ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, last)));
    int good = length > 0 && !memchr(text, 0, (size_t) length) && BIO_write(out, text, length) == length;
    OPENSSL_free(text);
    return good;
}

static int print_serial(BIO *out, const ASN1_INTEGER *serial) {
    BIGNUM *number = ASN1_INTEGER_to_BN(serial, NULL);
    int good = number && BN_print(out, number);
    BN_free(number);
    return good;
}

/* As ISO 8601 has it, in UTC. */
static int print_date(BIO *out, const ASN1_TIME *date) {
    struct tm t;
    if (!ASN1_TIME_to_tm(date, &t)) return 0;
    return BIO_printf(out, "%04d-%02d-%02dT%02d:%02d:%02dZ", t.tm_year + 1900, t.tm_mon + 1, t.tm_mday, t.tm_hour, t.tm_min, t.tm_sec) > 0;
}

/* Text of a certificate's own making: with nothing in it that could pass for the end of a line. */
static void print_plain(BIO *out, const ASN1_STRING *string) {
    const unsigned char *text = ASN1_STRING_get0_data(string);
    for (int i = 0; i < ASN1_STRING_length(string); i++) {
        if (text[i] > ' ' && text[i] < 0x7f && text[i] != '\\') BIO_write(out, text + i, 1);
        else BIO_printf(out, "\\x%02x", text[i]);
    }
}

static void print_address(BIO *out, const ASN1_OCTET_STRING *address) {
    char text[INET6_ADDRSTRLEN];
    int length = ASN1_STRING_length(address), family = length == 4 ? AF_INET : AF_INET6;
    int known = length == 4 || length == 16;
    if (known && inet_ntop(family, ASN1_STRING_get0_data(address), text, sizeof text)) BIO_puts(out, text);
    else print_plain(out, address);
}

static void print_object(BIO *out, const ASN1_OBJECT *object) {
    char text[128];
    if (OBJ_obj2txt(text, sizeof text, object, 1) > 0) BIO_puts(out, text);
}

static void print_other_name(BIO *out, GENERAL_NAME *name) {
    switch (name->type) {
    case GEN_DNS: BIO_puts(out, "DNS:"), print_plain(out, name->d.dNSName); break;
    case GEN_EMAIL: BIO_puts(out, "email:"), print_plain(out, name->d.rfc822Name); break;
    case GEN_URI: BIO_puts(out, "URI:"), print_plain(out, name->d.uniformResourceIdentifier); break;
    case GEN_IPADD: BIO_puts(out, "IP:"), print_address(out, name->d.iPAddress); break;
    case GEN_DIRNAME: BIO_puts(out, "directory:"), print_name(out, name->d.directoryName); break;
    case GEN_RID: BIO_puts(out, "OID:"), print_object(out, name->d.registeredID); break;
    case GEN_OTHERNAME: BIO_puts(out, "other:"), print_object(out, name->d.otherName->type_id); break;
    default: BIO_puts(out, "unknown:"); break;
    }
    BIO_puts(out, "\n");
}

static int print_other_names(BIO *out, X509 *certificate) {
    GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) print_other_name(out, sk_GENERAL_NAME_value(names, i));
    GENERAL_NAMES_free(names);
    return 1;
}

static int print(BIO *out, X509 *certificate, int what) {
    switch (what) {
    case LIBUS_CERTIFICATE_SUBJECT: return print_name(out, X509_get_subject_name(certificate));
    case LIBUS_CERTIFICATE_ISSUER: return print_name(out, X509_get_issuer_name(certificate));
    case LIBUS_CERTIFICATE_COMMON_NAME: return print_common_name(out, X509_get_subject_name(certificate));
    case LIBUS_CERTIFICATE_SERIAL: return print_serial(out, X509_get0_serialNumber(certificate));
    case LIBUS_CERTIFICATE_NOT_BEFORE: return print_date(out, X509_get0_notBefore(certificate));
    case LIBUS_CERTIFICATE_NOT_AFTER: return print_date(out, X509_get0_notAfter(certificate));
    case LIBUS_CERTIFICATE_NAMES: return print_other_names(out, certificate);
    default: return 0;
    }
}

int us_certificate_text(const char *der, int length, int what, char *to, int size) {
    const unsigned char *at = (const unsigned char *) der;
    ERR_clear_error();
    X509 *certificate = d2i_X509(NULL, &at, length);
    BIO *out = BIO_new(BIO_s_mem());
    char *text = NULL;
    int result = -1;
    /* What follows a certificate is none of it: else one would have many fingerprints. */
    if (certificate && at == (const unsigned char *) der + length && out && print(out, certificate, what)) {
        result = (int) BIO_get_mem_data(out, &text);
        if (result && result <= size) memcpy(to, text, (size_t) result);
    }
    BIO_free(out);
    X509_free(certificate);
    ERR_clear_error();
    return result;
}

#endif
