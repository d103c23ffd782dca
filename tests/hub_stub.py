"""A hub on this machine: a cache folder laid out by hand, and a server that speaks as much as downloads need."""

import hashlib
from collections.abc import Callable, Mapping
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


@dataclass
class HubStub:
    """Serves {"owner/name": {file: content}} at every revision in COMMITS, or an error for all of a repository.

    errors: repository -> (status, X-Error-Code). requests: what was asked, "METHOD path".
    """

    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    errors: dict[str, tuple[int, str]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    cut: int = 0  # bytes left out at the end of each body
    before_body: Callable[[], None] | None = None

    def handler(self) -> type[BaseHTTPRequestHandler]:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                hub.requests.append(f"{self.command} {self.path}")
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
                self.send_response(200)
                self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
                self.send_header("X-Repo-Commit", commit)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if self.command == "GET":
                    if hub.before_body:
                        hub.before_body()
                    self.wfile.write(content[: len(content) - hub.cut])
                    self.close_connection = bool(hub.cut)
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

    def server(self) -> ThreadingHTTPServer:
        """A server on a free port of 127.0.0.1; `serve_forever` and `shutdown` are the caller's."""
        return ThreadingHTTPServer(("127.0.0.1", 0), self.handler())
