/* The registered status phrases. */
#include "status.h"

#include <stddef.h>

static const char *const successful[] = {"OK", "Created", "Accepted", "Non-Authoritative Information", "No Content",
    "Reset Content", "Partial Content", "Multi-Status", "Already Reported"};
static const char *const redirection[] = {"Multiple Choices", "Moved Permanently", "Found", "See Other",
    "Not Modified", "Use Proxy", "", "Temporary Redirect", "Permanent Redirect"};
static const char *const client_error[] = {"Bad Request", "Unauthorized", "Payment Required", "Forbidden",
    "Not Found", "Method Not Allowed", "Not Acceptable", "Proxy Authentication Required", "Request Timeout",
    "Conflict", "Gone", "Length Required", "Precondition Failed", "Content Too Large", "URI Too Long",
    "Unsupported Media Type", "Range Not Satisfiable", "Expectation Failed", "I'm a teapot", "", "",
    "Misdirected Request", "Unprocessable Content", "Locked", "Failed Dependency", "Too Early",
    "Upgrade Required", "", "Precondition Required", "Too Many Requests", "",
    "Request Header Fields Too Large"};
static const char *const server_error[] = {"Internal Server Error", "Not Implemented", "Bad Gateway",
    "Service Unavailable", "Gateway Timeout", "HTTP Version Not Supported", "Variant Also Negotiates",
    "Insufficient Storage", "Loop Detected", "", "Not Extended", "Network Authentication Required"};

static const char *phrase_of(const char *const *phrases, size_t count, int index)
{
    return (size_t) index < count ? phrases[index] : "";
}

#define COUNT(phrases) (sizeof(phrases) / sizeof((phrases)[0]))

const char *ck_status_phrase(int status)
{
    int index = status % 100;
    switch (status / 100) {
    case 2:
        return status == 226 ? "IM Used" : phrase_of(successful, COUNT(successful), index);
    case 3:
        return phrase_of(redirection, COUNT(redirection), index);
    case 4:
        return status == 451 ? "Unavailable For Legal Reasons" : phrase_of(client_error, COUNT(client_error), index);
    case 5:
        return phrase_of(server_error, COUNT(server_error), index);
    default:
        return "";
    }
}
