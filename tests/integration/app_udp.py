"""Answer each datagram with several, for the test that counts system calls."""

from __future__ import annotations

import asyncio
import sys

from corkbind import App, UdpSocket
from corkbind.serving import new_loop


def answer_now(udp: UdpSocket, data: bytes, address: tuple[str, int]) -> None:
    """Answer by many datagrams from a callback."""
    for number in range(int(data[3:])):
        udp.send(b"now%d" % number, address)


async def answer_later(udp: UdpSocket, data: bytes, address: tuple[str, int]) -> None:
    """Answer by many datagrams after a wait, from two tasks."""

    async def half(name: bytes) -> None:
        for number in range(int(data[5:]) // 2):
            udp.send(b"later%s%d" % (name, number), address)

    await asyncio.sleep(0)
    await asyncio.gather(half(b"a"), half(b"b"))


async def main() -> None:
    app = App()
    with UdpSocket(on_data=answer_now) as now, UdpSocket(on_data=answer_later) as later:
        app.get("/ports", lambda res, req: res.json([now.local_address[1], later.local_address[1]]))
        app.get("/sends", lambda res, req: res.json([now.stats()["sends"], later.stats()["sends"]]))
        stop = asyncio.Event()
        for number in (2, 15):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        async with app.serving(port=0, host="127.0.0.1") as address:
            print(f"http://127.0.0.1:{address.port}", flush=True)
            await stop.wait()


if __name__ == "__main__":
    loop = new_loop(sys.argv[1])
    loop.run_until_complete(main())
    loop.close()
