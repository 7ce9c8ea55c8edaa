"""Take JSON and give JSON, by another library than the standard one."""

import orjson

from corkbind import App

app = App()
app.json_serializer(orjson)
notes = {}


@app.post("/notes")
async def add(res, req):
    """Add a note; a body that is no JSON is None."""
    note = await res.get_json()
    if not isinstance(note, dict) or "text" not in note:
        return res.write_status(400).cork_end({"error": 'send {"text": ...}'})
    number = str(len(notes) + 1)
    notes[number] = note
    return res.cork_send({"id": number, **note}, status="201 Created", headers=[("Location", f"/notes/{number}")])


@app.get("/notes/:id")
def get(res, req):
    """Give a note; end() and send() make JSON of what is no text."""
    note = notes.get(req.get_parameter(0))
    if note is None:
        res.send({"error": "no such note"}, status=404)
    else:
        res.end(note)


app.get("/notes", lambda res, req: res.send(notes))
app.listen(8000, lambda config: print(f"listening on http://localhost:{config.port}"))
app.run()
