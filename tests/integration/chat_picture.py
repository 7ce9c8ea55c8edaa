"""Store the picture of the chat that its page in docs/tutorial shows."""

from __future__ import annotations

import tempfile
from pathlib import Path

from chromium import chromium
from harness import HERE, serve
from test_chat import CHAT, PEOPLE, SAID, enter, say

PICTURE = CHAT / "chat.png"


def main() -> None:
    """Let three people talk in three windows."""
    with (
        serve(HERE / "run_example.py", CHAT / "server.py") as server,
        tempfile.TemporaryDirectory() as folder,
        chromium(Path(folder)) as ada,
    ):
        ada.window(860, 520)
        enter(ada, server, "Ada")
        bob, grace = ada.another(), ada.another()
        enter(bob, server, "Bob")
        enter(grace, server, "Grace Hopper")
        ada.until(f"{PEOPLE}.length === 3")
        talk = [
            (ada, "Good morning! Is the room a topic now?"),
            (bob, "It is. Each of us has subscribed to “Lobby”."),
            (bob, "What is published there is framed once, and leaves in one send for each of us."),
            (grace, "And who closes the window?"),
            (ada, "Is taken off the list: the subscription handler hears of that too."),
        ]
        for number, (page, text) in enumerate(talk, 1):
            say(page, text)
            for each in (ada, bob, grace):
                each.until(f"{SAID}.length === {number}")
        bob.evaluate("document.getElementById('text').focus()")
        bob.type("Then")
        ada.until("document.getElementById('typing').textContent !== ''")
        PICTURE.write_bytes(ada.screenshot())


if __name__ == "__main__":
    main()
