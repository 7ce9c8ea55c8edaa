"""Answer DNS questions from a table: `python dns_echo.py 8053`, then `dig @127.0.0.1 -p 8053 hello.example`.

All questions that have come together are answered in one system call. There is no
asyncio here: `Loop.run()` waits for the sockets itself.
"""

import ipaddress
import struct
import sys

from corkbind import Loop, UdpSocket

A, TXT, AAAA = 1, 16, 28
IN, ANY_CLASS = 1, 255
NO_ERROR, FORMAT_ERROR, NO_SUCH_NAME, NOT_IMPLEMENTED, REFUSED = 0, 1, 3, 4, 5
LONGEST = 512  # bytes of a DNS message over UDP, unless both sides agree on more
ANSWER, OPCODE, AUTHORITATIVE, TRUNCATED, RECURSION_DESIRED = 0x8000, 0x7800, 0x0400, 0x0200, 0x0100


def wire(name):
    """Return a name as it travels: each label after its length, and an empty one at the end."""
    return b"".join(bytes([len(label)]) + label.encode("ascii") for label in [*name.split("."), ""])


RECORDS = {
    wire("hello.example"): {A: ["192.0.2.1", "192.0.2.2"], AAAA: ["2001:db8::1"], TXT: ["hello from corkbind"]},
    wire("large.example"): {TXT: ["x" * 255] * 4},
}


class Malformed(Exception):
    """The question cannot be read."""


def end_of_name(message, at):
    """Return the place behind the name that begins at a place."""
    begin = at
    while True:
        if at >= len(message) or at - begin >= 255:
            raise Malformed
        length = message[at]
        at += 1 + length
        if length == 0:
            return at
        if length > 63:  # a pointer, which no question needs
            raise Malformed


def read_question(message):
    """Return name, type and class of the one question, and the place behind it."""
    if struct.unpack_from("!H", message, 4) != (1,):
        raise Malformed
    at = end_of_name(message, 12)
    if at + 4 > len(message):
        raise Malformed
    name = message[12:at].lower()  # lengths are below the capital letters
    return name, *struct.unpack_from("!HH", message, at), at + 4


def record_data(kind, value):
    """Return a record's data as it travels."""
    if kind == TXT:
        return bytes([len(value)]) + value.encode("ascii")
    return ipaddress.ip_address(value).packed


def answer(message):
    """Return the answer to a message; None for what is none of a client's. Never raises."""
    if len(message) < 12:
        return None
    number, flags = struct.unpack_from("!HH", message)
    if flags & ANSWER:  # or two servers could keep each other busy for ever
        return None
    flags = ANSWER | AUTHORITATIVE | (flags & (OPCODE | RECURSION_DESIRED))
    if flags & OPCODE:
        return struct.pack("!6H", number, flags | NOT_IMPLEMENTED, 0, 0, 0, 0)
    try:
        name, kind, group, end = read_question(message)
    except Malformed:
        return struct.pack("!6H", number, flags | FORMAT_ERROR, 0, 0, 0, 0)
    question = message[12:end]
    known = RECORDS.get(name)
    if group not in (IN, ANY_CLASS):
        return struct.pack("!6H", number, flags | REFUSED, 1, 0, 0, 0) + question
    if known is None:
        return struct.pack("!6H", number, flags | NO_SUCH_NAME, 1, 0, 0, 0) + question
    records = [record_data(kind, value) for value in known.get(kind, [])]  # of other types there are none
    # Each is for the name at byte 12, and may be kept for 60 seconds.
    body = b"".join(struct.pack("!HHHIH", 0xC00C, kind, IN, 60, len(data)) + data for data in records)
    if 12 + len(question) + len(body) > LONGEST:
        return struct.pack("!6H", number, flags | TRUNCATED, 1, 0, 0, 0) + question
    return struct.pack("!6H", number, flags | NO_ERROR, 1, len(records), 0, 0) + question + body


def on_data(udp, data, address):
    """Answer one datagram."""
    reply = answer(data)
    if reply is not None:
        udp.reply(reply)


def main():
    """Serve until Ctrl-C."""
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8053
    with Loop() as loop, UdpSocket(loop, port=port, on_data=on_data) as udp:
        print("answering on {} port {}".format(*udp.local_address), flush=True)
        try:
            loop.run()
        except KeyboardInterrupt:
            stats = udp.stats()
            print(f"{stats['datagrams']} answers in {stats['sends']} sends")


if __name__ == "__main__":
    main()
