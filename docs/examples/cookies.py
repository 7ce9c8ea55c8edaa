"""Set, read and delete cookies."""

from datetime import datetime, timedelta, timezone

from corkbind import App


def sign_in(res, req):
    """Set several: each becomes a field of its own."""
    expires = datetime.now(timezone.utc) + timedelta(hours=1)
    res.set_cookie("session", "s3cr3t", {"path": "/", "httponly": True, "samesite": "Lax", "expires": expires})
    res.set_cookie("theme", "dark", {"path": "/", "max-age": 3600})
    res.cork_end("signed in")


def who(res, req):
    """Read them."""
    res.end({"session": req.get_cookie("session"), "all": dict(req.get_cookies())})


def sign_out(res, req):
    """Delete one: it expires at once."""
    res.set_cookie("session", "", {"path": "/", "max-age": 0})
    res.redirect("/who")


app = App()
app.get("/sign-in", sign_in)
app.get("/who", who)
app.get("/sign-out", sign_out)
app.listen(8000, lambda config: print(f"listening on http://localhost:{config.port}"))
app.run()
