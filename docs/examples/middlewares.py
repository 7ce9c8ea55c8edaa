"""Run functions before a handler: one that knows the user, one that refuses, one that waits."""

import asyncio

from corkbind import App, middleware

USERS = {"secret": "ada"}


def authenticate(res, req, data=None):
    """Return the user, who is the data of what follows; refuse who is none."""
    user = USERS.get(req.get_header("authorization"))
    if user is None:
        res.write_status(403).cork_end("not you")
        return False
    return {"user": user}


async def load_profile(res, req, data):
    """Wait, as for a database; what follows runs in a coroutine."""
    await asyncio.sleep(0.01)
    return {**data, "city": "London"}


def log(res, req, data):
    """Do something on the way, and hand the data on."""
    print(req.get_method(), req.get_url(), data)
    return data


def home(res, req, data):
    """Answer; what a handler returns here is not used."""
    res.cork_end(data)


app = App()
app.get("/plain", middleware(authenticate, log, home))
app.get("/async", middleware(authenticate, load_profile, log, home))
app.get("/nested", middleware(middleware(authenticate, load_profile), middleware(log, home)))
app.listen(8000, lambda config: print(f"listening on http://localhost:{config.port}"))
app.run()
