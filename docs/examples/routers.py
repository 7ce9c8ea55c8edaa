"""Give routes a common prefix and common middlewares."""

from corkbind import App, MiddlewareRouter


def authenticate(res, req, data=None):
    """Let pass who says a name."""
    name = req.get_query("name")
    if not name:
        res.write_status(401).end("who are you?")
    return name


async def shout(res, req, name):
    """Change the data."""
    return name.upper()


app = App()
public = app.router()
api = app.router("/api", authenticate)
loud = MiddlewareRouter(app, authenticate, shout)


@public.get("/")
def index(res, req):
    """Be open to all."""
    res.end("public")


@api.get("/me")
def me(res, req, name):
    """Be behind the middleware of its router."""
    res.end(f"you are {name}")


@api.post("/notes")
async def add_note(res, req, name):
    """Read the body, also after middlewares."""
    note = await res.get_text()
    res.write_status(201).end(f"{name} wrote {note}")


loud.get("/loud/me", me).post("/loud/notes", add_note)

app.listen(8000, lambda config: print(f"listening on http://localhost:{config.port}"))
app.run()
