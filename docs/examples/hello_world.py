"""Say hello: the smallest program."""

from corkbind import App

app = App()
app.get("/", lambda res, req: res.end("Hello World"))
app.listen(8000, lambda config: print(f"listening on http://localhost:{config.port}"))
app.run()
