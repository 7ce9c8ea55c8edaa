"""Give this app's requests and responses methods and properties of their own."""

from corkbind import App

app = App()


def shop(request, response, ws):
    """Say what is added; ws is for WebSockets."""

    @request.method
    async def get_user(self):
        token = self.get_header("token")
        self.token = token
        return {"name": "Ada"} if token else {"name": "anonymous"}

    @response.method
    def msgpack(self, value):
        self.write_header("Content-Type", "application/msgpack")
        return self.end(b"\x81\xa4name" + bytes([0xA0 + len(value["name"])]) + value["name"].encode())

    request.property("token", "none")
    response.property("cart", [])


app.register(shop)


@app.get("/user")
async def user(res, req):
    """Use the methods."""
    before = req.token
    user = await req.get_user()
    res.cork(lambda res: res.write_header("X-Token", f"{before} {req.token}").msgpack(user))


@app.get("/cart/:item")
def cart(res, req):
    """Use a property: each response has a list of its own."""
    res.cart.append(req.get_parameter(0))
    res.end(res.cart)


app.listen(8000, lambda config: print(f"listening on http://localhost:{config.port}"))
app.run()
