"""The benchmark's file on nginx: one worker, as it is tuned for files."""

import os
import shutil
import sys
from pathlib import Path

OUT = Path(__file__).resolve().parents[3] / "build" / "bench"

CONFIGURATION = """
daemon off;
worker_processes 1;
master_process off;
pid {out}/nginx.pid;
error_log stderr error;
events {{ worker_connections 512; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    default_type application/octet-stream;
    client_body_temp_path {out}/nginx-tmp/body;
    proxy_temp_path {out}/nginx-tmp/proxy;
    fastcgi_temp_path {out}/nginx-tmp/fastcgi;
    uwsgi_temp_path {out}/nginx-tmp/uwsgi;
    scgi_temp_path {out}/nginx-tmp/scgi;
    server {{
        listen 127.0.0.1:{port};
        location /files/ {{ alias {out}/files/; open_file_cache max=16; }}
    }}
}}
"""


def main():
    nginx = shutil.which("nginx") or ("/usr/sbin/nginx" if os.path.exists("/usr/sbin/nginx") else None)
    if nginx is None:
        raise SystemExit("nginx is not installed")
    (OUT / "nginx-tmp").mkdir(parents=True, exist_ok=True)
    path = OUT / "nginx.conf"
    path.write_text(CONFIGURATION.format(out=OUT, port=int(sys.argv[1])))
    os.execv(nginx, [nginx, "-c", str(path), "-p", str(OUT)])


if __name__ == "__main__":
    main()
