"""A hub on this machine: a cache folder laid out by hand, and a server that speaks as much as downloads need."""

import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMITS = {"main": "a" * 40, "v1": "b" * 40}


def fill_cache(cache: Path, repo: str, files: Mapping[str, bytes | Path], revision: str = "main") -> Path:
    """Lay a repository out as huggingface_hub does; paths are linked. Returns the snapshot's folder."""
    commit = COMMITS.get(revision, revision)
    base = cache / f"models--{repo.replace('/', '--')}"
    snapshot = base / "snapshots" / commit
    if revision in COMMITS:
        (base / "refs").mkdir(parents=True, exist_ok=True)
        (base / "refs" / revision).write_text(commit)
    for name, content in files.items():
        path = snapshot / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Path):
            path.symlink_to(content)
        else:
            path.write_bytes(content)
    return snapshot


def use_hub(endpoint: str, cache: Path) -> dict[str, str]:
    """Return the environment in which a program asks this hub, which may take its time on a busy machine."""
    patience = dict.fromkeys(("HF_HUB_ETAG_TIMEOUT", "HF_HUB_DOWNLOAD_TIMEOUT"), "60")
    return {"HF_ENDPOINT": endpoint, "HF_HUB_CACHE": str(cache), **patience}


@dataclass
class HubStub:
    """Serves {"owner/name": {file: content}} at every revision in COMMITS, or an error for all of a repository.

    The ETag of JSON is a SHA-1, as of what the hub keeps in git; that of other files is their SHA-256.
    errors: repository -> (status, X-Error-Code). requests: what was asked, "METHOD path". ranges: the Range of
    every GET, "" without one.
    """

    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    errors: dict[str, tuple[int, str]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    ranges: list[str] = field(default_factory=list)
    cut: int = 0  # bytes left out at the end of each body
    sent: list[int] = field(default_factory=list)  # of the next GETs of large files, then the connection is cut
    spoilt: set[str] = field(default_factory=set)  # files whose content is not what their ETag says
    knows_ranges: bool = True
    held: threading.Event = field(default_factory=threading.Event)  # what a cut waits for, if `holds`
    holds: bool = False
    before_body: Callable[[], None] | None = None
    after_cut: Callable[[], None] | None = None

    def fail(self) -> None:
        """Answer with a server's fault from now on."""
        self.errors = dict.fromkeys(self.files, (500, ""))

    def handler(self) -> type[BaseHTTPRequestHandler]:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                hub.requests.append(f"{self.command} {self.path}")
                if "/resolve/" not in self.path:
                    return self.refuse(404, "")
                owner, name, _, revision, *file = self.path.strip("/").split("/")
                repo, commit = f"{owner}/{name}", COMMITS.get(revision, revision)
                if repo in hub.errors:
                    return self.refuse(*hub.errors[repo])
                if repo not in hub.files:
                    return self.refuse(404, "RepoNotFound")
                if commit not in COMMITS.values():
                    return self.refuse(404, "RevisionNotFound")
                content = hub.files[repo].get("/".join(file))
                if content is None:
                    return self.refuse(404, "EntryNotFound", commit)
                begin = 0
                if self.command == "GET":
                    hub.ranges.append(self.headers.get("Range", ""))
                    begin = int(hub.ranges[-1][6:-1] or 0) if hub.knows_ranges else 0
                self.send_response(206 if begin else 200)
                if begin:
                    self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
                digest = hashlib.sha1 if file[-1].endswith(".json") else hashlib.sha256
                self.send_header("ETag", f'"{digest(content).hexdigest()}"')
                self.send_header("X-Repo-Commit", commit)
                self.send_header("Content-Length", str(len(content) - begin))
                self.end_headers()
                if self.command == "GET":
                    if hub.before_body:
                        hub.before_body()
                    if file[-1] in hub.spoilt:
                        content = content[:-1] + bytes([content[-1] ^ 1])
                    whole = len(content) - hub.cut
                    cuts = hub.sent and digest is hashlib.sha256
                    end = min(whole, begin + hub.sent.pop(0)) if cuts else whole
                    self.wfile.write(content[begin:end])
                    if end < len(content):
                        if hub.after_cut:
                            hub.after_cut()
                        if hub.holds:
                            hub.held.wait(60)
                    self.close_connection = end < len(content)
                return None

            do_GET = do_HEAD

            def refuse(self, status: int, code: str, commit: str = "") -> None:
                self.send_response(status)
                self.send_header("X-Error-Code", code)
                self.send_header("X-Error-Message", "first line\nsecond line".splitlines()[0])
                if commit:
                    self.send_header("X-Repo-Commit", commit)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Handler

    @contextmanager
    def serving(self) -> Iterator[str]:
        """Serve on a free port of this machine; gives the endpoint."""
        with ThreadingHTTPServer(("127.0.0.1", 0), self.handler()) as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.01,))
            thread.start()
            yield f"http://127.0.0.1:{server.server_port}"
            self.held.set()
            server.shutdown()
            thread.join()
