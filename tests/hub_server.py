"""A local stand-in for the Hugging Face Hub: the endpoints that huggingface_hub calls to read and to push."""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

TOKEN = "hf_of_a_test"
Files = dict[str, bytes]


def files_of(folder: Path) -> Files:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def run_with_hub(endpoint: str, cache: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python with that Hub and nothing of the caller's Hub settings (huggingface_hub reads them on import)."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING")) and "proxy" not in k.lower()}
    clean["PYTHONPATH"] = str(Path(__file__).parents[1])
    patient = {"HF_HUB_ETAG_TIMEOUT": "1000", "HF_HUB_DOWNLOAD_TIMEOUT": "1000"}  # on a machine that is busy
    env = clean | {"HF_ENDPOINT": endpoint, "HF_HOME": str(cache), "OMP_NUM_THREADS": "1", **patient, **environment}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, env=env, cwd=cache.parent, timeout=1500
    )


class HubServer:
    """Repositories of ``owner``; everybody may read, who has :data:`TOKEN` may write.

    Attributes:
        requests: paths asked for so far.
        refs: (repository, branch or tag) → commit.
        commits: commit → files.
        after_config: called once after a ``config.json`` went out.
    """

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.refs: dict[tuple[str, str], str] = {}
        self.commits: dict[str, Files] = {}
        self.after_config: Callable[[], object] | None = None
        self.large: Files = {}  # uploaded by LFS, by sha256
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def add(self, repository: str, ref: str, files: Files) -> str:
        """Commit ``files`` on top of what ``ref`` is."""
        whole = {**self.commits.get(self.refs.get((repository, ref), ""), {}), **files}
        digests = repr((repository, self.refs.get((repository, ref)), sorted((n, len(b)) for n, b in whole.items())))
        commit = hashlib.sha1(digests.encode()).hexdigest()
        self.commits[commit] = whole
        self.refs[repository, ref] = commit
        return commit

    def __enter__(self) -> HubServer:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    # --- what the endpoints do ---------------------------------------------------------------------------

    def resolve(self, repository: str, revision: str, name: str) -> tuple[str, bytes] | str:
        """Return commit and content of a file, or the Hub's name of the error."""
        if not any(known == repository for known, _ in self.refs):
            return "RepoNotFound"
        commit = self.refs.get((repository, revision), revision)
        if commit not in self.commits:
            return "RevisionNotFound"
        return (commit, self.commits[commit][name]) if name in self.commits[commit] else "EntryNotFound"

    def post(self, path: str, body: bytes) -> tuple[int, object]:
        if path == "/api/validate-yaml":
            ok = json.loads(body)["content"].startswith("---\n")
            return (200, {}) if ok else (400, {"errors": [{"message": "no metadata"}]})
        if path == "/api/repos/create":
            request = json.loads(body)
            if request["organization"] != "owner":
                return 403, {"error": "You don't have the rights to create a model under this namespace"}
            repository = f"owner/{request['name']}"
            answer = {"url": f"{self.endpoint}/{repository}"}
            if (repository, "main") in self.refs:
                return 409, {**answer, "error": "You already created this model repo"}
            self.add(repository, "main", {".gitattributes": b""})
            return 200, answer
        if path.endswith(".git/info/lfs/objects/batch"):
            objects = [
                {**o, "actions": {"upload": {"href": f"{self.endpoint}/lfs/{o['oid']}"}}}
                for o in json.loads(body)["objects"]
            ]
            return 200, {"transfer": "basic", "objects": objects}
        _, _, _, owner, name, verb, ref = path.split("/")  # /api/models/<owner>/<name>/<verb>/<ref>
        if verb == "preupload":
            modes = [
                {
                    "path": f["path"],
                    "uploadMode": "lfs" if f["path"].endswith(".safetensors") else "regular",
                    "shouldIgnore": False,
                    "oid": None,
                }
                for f in json.loads(body)["files"]
            ]
            return 200, {"files": modes}
        assert verb == "commit"
        files: Files = {}
        for line in body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self.large[value["oid"]]
        commit = self.add(f"{owner}/{name}", ref, files)
        return 200, {"commitUrl": f"{self.endpoint}/{owner}/{name}/commit/{commit}", "commitOid": commit}

    # --- HTTP --------------------------------------------------------------------------------------------

    def _handler(hub: HubServer) -> type[http.server.BaseHTTPRequestHandler]:  # noqa: N805
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                hub.requests.append(path)
                owner, name, verb, revision, *rest = [*path.strip("/").split("/"), *[""] * 4]
                file = "/".join(p for p in rest if p)
                answer = hub.resolve(f"{owner}/{name}", revision, file) if verb == "resolve" else "RepoNotFound"
                if isinstance(answer, str):
                    headers = {"X-Error-Code": answer}
                    if answer == "EntryNotFound":  # of a commit, so that a cache can remember it
                        headers["X-Repo-Commit"] = hub.refs.get((f"{owner}/{name}", revision), revision)
                    self.answer(404, b"", headers)
                    return
                commit, data = answer
                self.answer(200, data, {"X-Repo-Commit": commit, "ETag": f'"{hashlib.sha256(data).hexdigest()}"'})
                if self.command == "GET" and file == "config.json" and hub.after_config:
                    hub.after_config, act = None, hub.after_config
                    act()

            do_HEAD = do_GET  # noqa: N815

            def do_POST(self) -> None:
                hub.requests.append(self.path)
                body = self.body()
                if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                    self.answer(401, json.dumps({"error": "Invalid credentials in Authorization header"}).encode())
                    return
                status, answer = hub.post(self.path, body)
                self.answer(status, json.dumps(answer).encode(), {"Content-Type": "application/json"})

            def do_PUT(self) -> None:
                hub.requests.append(self.path)
                data = self.body()
                oid = self.path.rpartition("/")[2]
                intact = hashlib.sha256(data).hexdigest() == oid
                if intact:
                    hub.large[oid] = data
                self.answer(200 if intact else 400, b"")

            def body(self) -> bytes:
                if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
                    return self.rfile.read(int(self.headers.get("Content-Length", 0)))
                data = b""
                while size := int(self.rfile.readline(), 16):
                    data += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return data

            def answer(self, status: int, data: bytes, headers: dict[str, str] | None = None) -> None:
                self.send_response(status)
                for key, value in (headers or {}).items():
                    self.send_header(key, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        return Handler
