"""Chat in rooms: a room is a topic, and presence is its subscriptions."""

import json
import time
from collections import deque
from pathlib import Path

from corkbind import App

ROOMS = ("Lobby", "Garden", "Workshop")
REMEMBERED = 50  # messages of a room
LONGEST = 500  # characters of a message
LONGEST_NAME = 24

app = App()
app.static("/", Path(__file__).parent / "page")


class Room:
    """Hold what a newcomer is shown: who is there, and what was said last."""

    def __init__(self):
        self.people = []
        self.history = deque(maxlen=REMEMBERED)
        self.count = 0

    def name_for(self, wanted):
        """Return the name, with a number when somebody has it already."""
        name, number = wanted, 1
        while name in self.people:
            number += 1
            name = f"{wanted} {number}"
        return name


rooms = {name: Room() for name in ROOMS}


def clean(text, longest):
    """Return what can be shown of a text."""
    text.encode()  # ValueError for half a character, which JSON can hold and UTF-8 cannot
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:longest]


class Chat:
    """Serve one person; the methods are the handlers of the WebSocket."""

    max_payload_length = 4096
    idle_timeout = 60

    def open(self, ws):
        ws.room = ws.name = None
        ws.send({"type": "rooms", "rooms": ROOMS})

    def message(self, ws, message, opcode):
        try:
            wish = json.loads(message)
            act = {"join": self.join, "say": self.say, "typing": self.typing}[wish["type"]]
            act(ws, wish)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            ws.end(4000, "not understood")

    def join(self, ws, wish):
        name = clean(wish["name"], LONGEST_NAME) or "Nobody"
        room = rooms[wish["room"]]
        if ws.room is not None:
            ws.unsubscribe(ws.room)
        ws.room, ws.name = wish["room"], room.name_for(name)
        ws.send({"type": "welcome", "name": ws.name, "room": ws.room, "history": list(room.history)})
        ws.subscribe(ws.room)

    def subscription(self, ws, topic, count, before):
        """Somebody has come or gone, also by closing the window: tell all who are in the room."""
        room = rooms[topic]
        came = count > before
        if came:
            room.people.append(ws.name)
        else:
            room.people.remove(ws.name)
        app.publish(topic, {"type": "people", "people": room.people, "name": ws.name, "came": came})

    def say(self, ws, wish):
        text = clean(wish["text"], LONGEST)
        if not text or ws.room is None:
            return
        room = rooms[ws.room]
        room.count += 1
        said = {"type": "said", "id": room.count, "name": ws.name, "text": text, "time": time.time()}
        room.history.append(said)
        app.publish(ws.room, said)

    def typing(self, ws, wish):
        """Of this only the latest counts: a slow reader gets one for each person, however many there were."""
        if ws.room is not None:
            ws.publish(ws.room, {"type": "typing", "name": ws.name}, key=ws.name)


app.ws("/chat", Chat)
app.listen(8000, lambda config: print(f"chat on http://localhost:{config.port}"))
app.run()
