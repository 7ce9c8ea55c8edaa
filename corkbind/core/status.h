/* Status codes and their phrases. */
#ifndef CK_STATUS_H
#define CK_STATUS_H

/* Returns the registered phrase of a status (RFC 9110 S15, RFC 6585), "" when
 * there is none. Static. */
const char *ck_status_phrase(int status);

#endif
