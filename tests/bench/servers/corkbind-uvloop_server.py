"""The benchmark's routes on corkbind, run by uvloop as uvicorn, granian and robyn are."""

from corkbind_server import main

main("uvloop")
