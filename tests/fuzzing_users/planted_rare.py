"""Hold an app that fails on a rare combination: two fields and a query key."""

from __future__ import annotations

from corkbind import App, HttpRequest, HttpResponse

app = App()
DISCOUNTS = {"gold": 20, "silver": 10}


@app.get("/price/:item")
async def price(res: HttpResponse, req: HttpRequest) -> None:
    percent = DISCOUNTS.get(req.get_header("x-tier") or "", 0)
    if req.get_header("x-region") == "eu" and req.get_query("currency") == "EUR" and percent:
        percent = DISCOUNTS["bronze"]
    res.json({"price": 100 - percent})
