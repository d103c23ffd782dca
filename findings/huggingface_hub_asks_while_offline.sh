#!/bin/sh
# huggingface_hub 2.4.0: `hf_hub_download(..., local_files_only=True)` of a file that is in the cache.
#
# What one would think: the network is left alone.
# What happens: the library asks the hub for a list of agent programs (GET /api/agent-harnesses, up to 3 s where nobody answers),
# once in a process, to describe its caller. The error is swallowed, so that one sees only the wait, and a firewall's log.
# HF_HUB_OFFLINE=1 in the environment prevents it.
# Output seen:
#   with local_files_only=True: found config.json, and asked ['/api/agent-harnesses']
#   with HF_HUB_OFFLINE=1 too: found config.json, and asked []
# What to do: set HF_HUB_OFFLINE=1 before the library is imported where a program is told to stay offline.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env" > /dev/null
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check huggingface_hub==2.4.0 2> /dev/null
cat > "$folder/ask.py" <<'EOF'
"""Puts a file into a cache as the library lays it out, asks for it offline, and prints what a hub of our own was asked."""

import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

asked = []


class Hub(BaseHTTPRequestHandler):
    def do_GET(self):
        asked.append(self.path)
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    do_HEAD = do_POST = do_GET

    def log_message(self, *words):
        pass


server = HTTPServer(("127.0.0.1", 0), Hub)
threading.Thread(target=server.serve_forever, daemon=True).start()
os.environ["HF_ENDPOINT"] = f"http://127.0.0.1:{server.server_port}"
cache = Path(sys.argv[1])
snapshot = cache / "models--some--model" / "snapshots" / ("0" * 40)
snapshot.mkdir(parents=True, exist_ok=True)
(snapshot / "config.json").write_text("{}")
(snapshot.parents[1] / "refs").mkdir(exist_ok=True)
(snapshot.parents[1] / "refs" / "main").write_text("0" * 40)

from huggingface_hub import hf_hub_download  # noqa: E402

found = hf_hub_download("some/model", "config.json", cache_dir=cache, local_files_only=True)
print(f"{sys.argv[2]}: found {Path(found).name}, and asked {asked}")
EOF
unset HF_HUB_OFFLINE HF_ENDPOINT
export HF_HOME="$folder/home"
"$folder/env/bin/python" "$folder/ask.py" "$folder/cache" "with local_files_only=True" > "$folder/seen"
HF_HUB_OFFLINE=1 "$folder/env/bin/python" "$folder/ask.py" "$folder/cache" "with HF_HUB_OFFLINE=1 too" >> "$folder/seen"
cat "$folder/seen"
grep -q "^with local_files_only=True: found config.json, and asked \['/api/agent-harnesses'\]$" "$folder/seen" &&
    grep -q '^with HF_HUB_OFFLINE=1 too: found config.json, and asked \[\]$' "$folder/seen"
