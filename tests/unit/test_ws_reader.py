"""Check the client's own reader of frames, the frames it is tested with, and permessage-deflate from the client's side."""

from __future__ import annotations

import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corkbind.testing import Event, Frame, FrameReader, WebSocketError, read_frames
from corkbind.testing.ws_deflate import (
    Agreement,
    DeflateError,
    Deflater,
    Inflater,
    compress_frames,
    expand_frame,
    read_agreement,
    write_offer,
)
from corkbind.testing.ws_frames import accept_of, fragments, join_frames, masked, pieces, split_frames

few = settings(max_examples=200, deadline=None, derandomize=True, database=None)


def server(opcode: int, payload: bytes = b"", **options: Any) -> bytes:
    return Frame(opcode, payload, mask=None, **options).encode()


# -- Reading --


def test_bytes_of_rfc_6455() -> None:
    assert accept_of("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    hello = Event("message", "Hello")
    assert read_frames(bytes.fromhex("810548656c6c6f")) == ([hello], False)
    assert read_frames(bytes.fromhex("010348656c80026c6f")) == ([hello], False)
    assert FrameReader(from_client=True).feed(bytes.fromhex("818537fa213d7f9f4d5158")) == [hello]
    assert Frame(1, b"Hello", mask=bytes.fromhex("37fa213d")).encode() == bytes.fromhex("818537fa213d7f9f4d5158")
    assert read_frames(bytes.fromhex("890548656c6c6f")) == ([Event("ping", b"Hello")], False)
    assert read_frames(bytes.fromhex("827e0100") + bytes(256)) == ([Event("message", bytes(256))], False)
    assert read_frames(bytes.fromhex("827f0000000000010000") + bytes(65536))[0] == [Event("message", bytes(65536))]


def test_control_frames_between_fragments() -> None:
    data = server(1, b"\xe2\x82", fin=False) + server(9, b"p") + server(10) + server(0, b"\xac", fin=False) + server(0)
    assert read_frames(data) == ([Event("ping", b"p"), Event("pong", b""), Event("message", "€")], False)
    assert read_frames(data[:-1]) == ([Event("ping", b"p"), Event("pong", b"")], True)


@pytest.mark.parametrize(
    ("payload", "event"),
    [
        (b"", Event("close", "", 1005)),
        (b"\x03\xe8", Event("close", "", 1000)),
        (b"\x0f\xa1a\xc3\xa9", Event("close", "aé", 4001)),
    ],
)
def test_close_frames(payload: bytes, event: Event) -> None:
    assert read_frames(server(8, payload)) == ([event], False)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (Frame(1, b"a").encode(), "is masked"),
        (server(1, rsv=4), "reserved bits"),
        (server(1, rsv=2), "reserved bits"),
        (server(3), "opcode 3"),
        (server(11), "opcode 11"),
        (server(9, fin=False), "in fragments"),
        (server(9, b"x" * 126), "more than 125"),
        (server(1, b"x" * 125, form=16), "shortest form"),
        (server(1, b"x" * 126, form=64), "shortest form"),
        (b"\x82\x7f\x80" + bytes(7), "highest bit"),
        (server(0), "continuation of nothing"),
        (server(1, fin=False) + server(1), "inside another"),
        (server(1, b"\xff"), "no UTF-8"),
        (server(1, b"\xed\xa0\x80"), "no UTF-8"),
        (server(1, b"\xe2\x82"), "no UTF-8"),
        (server(8, b"\x03"), "one byte"),
        (server(8, b"\x03\xed"), "may not carry 1005"),
        (server(8, b"\x13\x88"), "may not carry 5000"),
        (server(8, b"\x03\xe8\xff"), "no UTF-8"),
        (server(8) + b"\x81", "follow the close frame"),
    ],
)
def test_what_is_refused(data: bytes, message: str) -> None:
    for cut in (len(data), 1):
        with pytest.raises(WebSocketError, match=message):
            feed_all(FrameReader(), data, cut)


def feed_all(reader: FrameReader, data: bytes, size: int) -> None:
    for at in range(0, len(data), size):
        reader.feed(data[at : at + size])


def test_an_error_says_where_and_keeps_what_was_before() -> None:
    events: list[Event] = []
    with pytest.raises(WebSocketError) as error:
        FrameReader().feed_into(server(1, b"a") + server(3), events)
    assert (events, error.value.at) == ([Event("message", "a")], 3)


def test_a_client_must_mask() -> None:
    with pytest.raises(WebSocketError, match="is not masked"):
        FrameReader(from_client=True).feed(server(1))


# -- Frames --

frames = st.builds(
    Frame,
    st.integers(0, 15),
    st.binary(max_size=300),
    st.booleans(),
    st.integers(0, 7),
    st.none() | st.binary(min_size=4, max_size=4),
    st.sampled_from([None, 64]),
)


@few
@given(st.lists(frames, max_size=5), st.binary(max_size=1))
def test_frames_are_taken_apart_as_they_were_written(drawn: list[Frame], rest: bytes) -> None:
    found = split_frames(join_frames(drawn) + rest)
    assert found == [*drawn, *([rest] if rest else [])]


@few
@given(st.binary(max_size=200))
def test_any_bytes_are_taken_apart_and_joined_again(data: bytes) -> None:
    assert join_frames(split_frames(data)) == data


@few
@given(st.text(max_size=40), st.lists(st.integers(0, 9), max_size=5), st.lists(st.integers(1, 9), max_size=3))
def test_messages_in_fragments_and_pieces(text: str, sizes: list[int], reads: list[int]) -> None:
    data = join_frames(fragments(1, text.encode(), sizes, b"abcd"))
    reader = FrameReader(from_client=True)
    assert [event for piece in pieces(data, reads) for event in reader.feed(piece)] == [Event("message", text)]
    assert not reader.pending


@given(st.binary(max_size=70), st.binary(min_size=4, max_size=4))
def test_masks(payload: bytes, mask: bytes) -> None:
    assert masked(payload, mask) == bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))


# -- Deflate --


@pytest.mark.parametrize(
    ("deflate", "offer"),
    [
        (None, ""),
        (False, ""),
        (True, "permessage-deflate; client_max_window_bits"),
        ({}, "permessage-deflate"),
        (
            {"server_max_window_bits": 10, "client_no_context_takeover": True},
            "permessage-deflate; server_max_window_bits=10; client_no_context_takeover",
        ),
        ({"client_max_window_bits": True, "server_no_context_takeover": False}, "permessage-deflate; client_max_window_bits"),
    ],
)
def test_offers(deflate: Any, offer: str) -> None:
    assert write_offer(deflate) == offer


def test_an_offer_of_what_is_not_there() -> None:
    with pytest.raises(ValueError, match="has no window"):
        write_offer({"window": 1})


USUAL = "permessage-deflate; client_max_window_bits"
NARROW = "permessage-deflate; server_max_window_bits=10; server_no_context_takeover"


@pytest.mark.parametrize(
    ("answer", "offer", "agreed"),
    [
        (None, USUAL, None),
        (None, "", None),
        ("permessage-deflate", USUAL, Agreement()),
        ("Permessage-Deflate; Client_max_window_bits=9", USUAL, Agreement(client_max_window_bits=9)),
        ("permessage-deflate;server_no_context_takeover;client_no_context_takeover", USUAL, Agreement(True, True)),
        ("permessage-deflate; server_max_window_bits=12", "permessage-deflate", Agreement(server_max_window_bits=12)),
        (
            "permessage-deflate; server_no_context_takeover; server_max_window_bits=9",
            NARROW,
            Agreement(True, server_max_window_bits=9),
        ),
        ("permessage-deflate", f"{NARROW}, permessage-deflate", Agreement()),
    ],
)
def test_agreements(answer: str | None, offer: str, agreed: Agreement | None) -> None:
    assert read_agreement(answer, offer) == agreed


@pytest.mark.parametrize(
    ("answer", "offer"),
    [
        ("permessage-deflate", ""),
        ("permessage-deflate", "x-webkit-deflate-frame"),
        ("x-webkit-deflate-frame", "x-webkit-deflate-frame"),
        ("permessage-deflate, permessage-deflate", USUAL),
        ("permessage-deflate; server_no_context_takeover=1", USUAL),
        ("permessage-deflate; server_no_context_takeover; server_no_context_takeover", USUAL),
        ("permessage-deflate; client_max_window_bits", USUAL),
        ("permessage-deflate; client_max_window_bits=16", USUAL),
        ("permessage-deflate; client_max_window_bits=08", USUAL),
        ("permessage-deflate; client_max_window_bits=10", "permessage-deflate"),
        ("permessage-deflate; client_max_window_bits=10", "permessage-deflate; client_max_window_bits=9"),
        ("permessage-deflate; other", USUAL),
        ("permessage-deflate", NARROW),
        ("permessage-deflate; server_no_context_takeover; server_max_window_bits=11", NARROW),
        ("permessage-deflate; server_max_window_bits=10", NARROW),
    ],
)
def test_answers_that_answer_no_offer(answer: str, offer: str) -> None:
    with pytest.raises(DeflateError):
        read_agreement(answer, offer)


def test_bytes_of_rfc_7692() -> None:
    assert Deflater(takeover=False).compress(b"Hello") == bytes.fromhex("f248cdc9c90700")
    inflater = Inflater()
    assert inflater.expand(bytes.fromhex("f248cdc9c90700")) == b"Hello"
    assert inflater.expand(bytes.fromhex("f200110000")) == b"Hello", "by what the first one has left"
    assert inflater.expand(bytes.fromhex("000500faff48656c6c6f00")) == b"Hello", "not compressed"
    with pytest.raises(DeflateError, match="ends its stream"):
        Inflater().expand(bytes.fromhex("f348cdc9c9070000"))


@few
@given(st.lists(st.binary(max_size=600) | st.just(b"abc" * 300), max_size=4), st.integers(8, 15), st.booleans())
def test_messages_survive_compression(messages: list[bytes], bits: int, takeover: bool) -> None:
    deflater, inflater = Deflater(bits, takeover), Inflater(bits, takeover)
    assert [inflater.expand(deflater.compress(message)) for message in messages] == messages


def test_frames_are_compressed_and_expanded() -> None:
    plain = [Frame(1, b"text " * 9), Frame(9, b"ping"), Frame(2, b"", mask=b"abcd"), *fragments(1, b"abc", [1])]
    packed = split_frames(compress_frames(join_frames(plain) + b"\x81"))
    assert packed[-1] == b"\x81"
    frames = [frame for frame in packed if isinstance(frame, Frame)]
    assert [frame.rsv for frame in frames] == [4, 0, 4, 0, 0]
    assert [expand_frame(frame) for frame in frames] == plain
    assert expand_frame(Frame(1, b"\xff", rsv=4)) == Frame(1, b"\xff", rsv=4)
    events = FrameReader(Agreement(), from_client=True).feed(join_frames(frames))
    assert [event.data for event in events] == ["text " * 9, b"ping", b"", "abc"]


def test_a_window_larger_than_agreed_is_seen() -> None:
    far = bytes(range(256)) * 2 + bytes(reversed(range(256))) * 3 + bytes(range(256)) + b"needle in the hay"
    packed = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = packed.compress(b"needle in the hay" + far) + packed.flush(zlib.Z_SYNC_FLUSH)
    assert Inflater(15).expand(data[:-4]) == b"needle in the hay" + far
    with pytest.raises(DeflateError, match="far back"):
        Inflater(9).expand(data[:-4])


def test_compressed_messages_of_a_server() -> None:
    agreement = Agreement(server_max_window_bits=10)
    deflater = Deflater(10)
    first, second = deflater.compress(b"text " * 40), deflater.compress(b"text " * 40)
    data = (
        server(1, first[:3], rsv=4, fin=False) + server(9) + server(0, first[3:]) + server(2, second, rsv=4) + server(1, b"plain")
    )
    events = [Event("ping", b""), Event("message", "text " * 40), Event("message", b"text " * 40), Event("message", "plain")]
    assert read_frames(data, agreement) == (events, False)
    for broken, message in (
        (server(1, b"\xff", rsv=4), "cannot be expanded"),
        (server(9, rsv=4), "reserved"),
        (server(1, fin=False) + server(0, rsv=4), "reserved"),
        (server(1, Deflater().compress(b"\xff"), rsv=4), "no UTF-8"),
    ):
        with pytest.raises(WebSocketError, match=message):
            read_frames(broken, agreement)
