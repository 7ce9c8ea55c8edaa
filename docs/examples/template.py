"""Render HTML from templates."""

from pathlib import Path

from corkbind import App
from corkbind.templates import Jinja2

app = App()
app.template(Jinja2(Path(__file__).with_name("templates"), encoding="utf-8"))


@app.get("/")
def home(res, req):
    """Fill a template in; what comes from clients is escaped."""
    res.render("home.html", name=req.get_query("name") or "nobody", items=["one", "two"])


app.get("/missing", lambda res, req: res.render("missing.html"))
app.on_error(lambda error, res, req: res.write_status(500).end(f"{type(error).__name__}: {error}"))
app.listen(8000, lambda config: print(f"listening on http://localhost:{config.port}"))
app.run()
