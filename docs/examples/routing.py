"""Route by method, parameter and wildcard; try the next route; answer what nobody answers."""

from corkbind import App, AppListenOptions


def user(res, req):
    """Read a parameter by its place, or by its name."""
    res.end(f"user {req.get_parameter(0)}, that is {req.get_parameter('id')}")


def numbers_only(res, req):
    """Leave what is no number to the next route that fits."""
    if not req.get_parameter(0).isdigit():
        req.set_yield(1)
        return
    res.end(f"item number {req.get_parameter(0)}")


class Shop:
    """Have methods as handlers."""

    def __init__(self):
        self.sold = 0

    def buy(self, res, req):
        """Count."""
        self.sold += 1
        res.end(f"sold {self.sold}")

    async def status(self, res, req):
        """Tell."""
        res.end(f"{self.sold} so far")


shop = Shop()
app = App()
app.get("/user/me", lambda res, req: res.end("that is you"))
app.get("/user/:id", user)
app.get("/item/:number", numbers_only)
app.get("/item/*", lambda res, req: res.end("item by name"))
app.post("/shop", shop.buy).get("/shop", shop.status)
app.put("/thing", lambda res, req: res.end("put"))
app.patch("/thing", lambda res, req: res.end("patched"))
app.delete("/thing", lambda res, req: res.write_status(204).end_without_body())
app.options("/thing", lambda res, req: res.write_header("Allow", "PUT, PATCH, DELETE").end())
app.head("/thing", lambda res, req: res.write_header("X-Thing", "yes").end_without_body())
app.get("/old", lambda res, req: res.redirect("/user/me", 301))
app.any("/any", lambda res, req: res.end(req.get_method()))
app.any("/*", lambda res, req: res.write_status(404).end(f"nothing at {req.get_url()}"))
app.listen(AppListenOptions(port=8000, host="127.0.0.1"), lambda config: print(f"listening on http://127.0.0.1:{config.port}"))
app.run()
