"""Serve the keys of a Redis.

python app.py --redis /run/redis/redis.sock --port 8000
"""

from __future__ import annotations

import argparse

import redis_keys

from corkbind import App, AppListenOptions, HttpRequest, HttpResponse


def main() -> None:
    """Serve until a signal."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--redis", default="127.0.0.1:6379", help="its Unix socket, or address:port")
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args()

    app = App()

    @app.get("/stats")
    def stats(res: HttpResponse, req: HttpRequest) -> None:
        counted = app.stats()
        res.json(
            {**redis_keys.stats(), **{name: counted[name] for name in ("requests", "responses", "sends", "aborted", "open")}}
        )

    # From here on C answers /key/... and /count/...
    redis_keys.serve(app.native_handle, options.redis)
    where = AppListenOptions(options.port, "127.0.0.1")
    app.listen(where, lambda real: print(f"listening on http://127.0.0.1:{real.port}", flush=True))
    app.run()


if __name__ == "__main__":
    main()
