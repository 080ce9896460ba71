"""A local Hugging Face Hub: repositories with their commits, in the Hub's own layout, and a log of requests.

It answers requests of `huggingface_hub`, `transformers` and `datasets`: files by name, branch, tag or commit, with the
headers and redirects of the Hub; listings; errors with the Hub's codes; and the steps of an upload.
"""

import base64
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha1, sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

LARGE = (".safetensors", ".parquet", ".bin")  # stored outside the repository, like Git LFS
TOKEN = "hf_of_this_test"
USER = "someone"
NOT_FOUND_ANONYMOUSLY = {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Invalid username or password."}
Answer = tuple[int, dict[str, str], bytes]


@dataclass
class Repository:
    """A model or data set with its history.

    Attributes:
        commits: the files of each commit, by path.
        refs: the commit of each branch and tag.
        gated: files require granted access, which nobody has.
        private: visible only with the token.
    """

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    gated: bool = False
    private: bool = False

    def commit(self, files: Mapping[str, bytes], *refs: str) -> str:
        """Add a commit with exactly these files, point `main` and other refs to it, and return its id."""
        listed = "".join(f"{path} {sha256(content).hexdigest()}\n" for path, content in sorted(files.items()))
        name = sha1(f"{len(self.commits)}\n{listed}".encode()).hexdigest()
        self.commits[name] = dict(files)
        self.refs.update(dict.fromkeys(("main", *refs), name))
        return name

    def find(self, revision: str) -> str | None:
        """The commit of a branch, tag or commit id."""
        return self.refs.get(revision, revision if revision in self.commits else None)


@dataclass(frozen=True)
class Request:
    """An answered request, with its status and whether it had the token."""

    method: str
    path: str
    status: int
    with_token: bool


class Hub(ThreadingHTTPServer):
    """The server. Its repositories may be changed while it runs.

    Attributes:
        repositories: by kind, `models` or `datasets`, and full name.
        renamed: names that redirect to another, like `gpt2` to `openai-community/gpt2`.
        requests: the log.
        dies_in: path ending of large files; on a request for one, the server dies halfway through sending it.
    """

    daemon_threads = True

    def __init__(self, port: int = 0):
        super().__init__(("127.0.0.1", port), _Handler)
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.renamed: dict[str, str] = {}
        self.requests: list[Request] = []
        self.large: dict[str, bytes] = {}
        self.endings: dict[str, str] = {}  # path endings of large files, by digest
        self.dies_in: str | None = None
        self.dead = False

    @property
    def endpoint(self) -> str:
        """The value for HF_ENDPOINT."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def store(self) -> str:
        """The address of large files, on a host with another name as on the Hub."""
        return f"http://localhost:{self.server_address[1]}/large"

    def repository(self, kind: str, name: str) -> Repository:
        """The repository with a name, created if missing."""
        return self.repositories.setdefault((kind, name), Repository())

    def asked(self, method: str = "") -> list[str]:
        """The paths of the requests so far, only those of `method` if given."""
        return [request.path for request in self.requests if method in ("", request.method)]

    def end(self) -> None:
        """Stop the server; later requests get no answer."""
        self.dead = True
        threading.Thread(target=self.shutdown, daemon=True).start()
        self.socket.close()


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Run the hub within the block."""
    thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join(timeout=10)


class _Handler(BaseHTTPRequestHandler):
    """Handle one connection."""

    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, format: str, *args: Any) -> None:
        """Do nothing: requests are in the hub's log."""

    def do_HEAD(self) -> None:
        """Like GET, without the content."""
        self._answer()

    def do_GET(self) -> None:
        """Files and listings."""
        self._answer()

    def do_POST(self) -> None:
        """Listings of named paths, and uploads."""
        self._answer()

    def do_PUT(self) -> None:
        """The content of a large file."""
        self._answer()

    def _answer(self) -> None:
        if self.server.dead:
            self.close_connection = True
            return
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        address = urlsplit(self.path)
        self.query = parse_qs(address.query)
        status, headers, content = self._find([unquote(part) for part in address.path.split("/") if part])
        self.server.requests.append(Request(self.command, self.path, status, self._has_token()))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.server.dies_in and self.server.endings.get(self.path.rpartition("/")[2]) == self.server.dies_in:
            self.wfile.write(content[: len(content) // 2])
            self.close_connection = True
            self.server.end()
            return
        self.wfile.write(content)

    def _has_token(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _find(self, parts: list[str]) -> Answer:
        """The answer to a path."""
        match parts:
            case []:
                return 200, {}, b"a hub"
            case ["large", digest]:
                return self._large(digest)
            case ["api", "whoami-v2"]:
                return _json({"type": "user", "name": USER, "orgs": []}) if self._has_token() else _error(401)
            case ["api", "validate-yaml"]:
                return _json({"errors": [], "warnings": []})
            case ["api", "repos", "create"]:
                return self._create()
            case ["api", ("models" | "datasets") as kind, *rest]:
                return self._api(kind, rest)
            case ["datasets", *rest] if "resolve" in rest:
                return self._resolve("datasets", rest)
            case [*rest] if "resolve" in rest:
                return self._resolve("models", rest)
            case [*name, "info", "lfs", "objects", "batch"]:
                return self._batch("/".join(name).removesuffix(".git"))
        return _error(404)

    def _repository(self, kind: str, name: str, files: bool) -> Repository | Answer:
        """The repository, or why it is not shown; `files`: the request is for its files, which may be gated."""
        if to := self.server.renamed.get(name):
            return 307, {"Location": self.path.replace(f"/{name}", f"/{to}", 1)}, b""
        found = self.server.repositories.get((kind, name))
        if found is None or (found.private and not self._has_token()):
            return _error(404, "RepoNotFound") if self._has_token() else (401, NOT_FOUND_ANONYMOUSLY, b"")
        if found.gated and files:
            status = 403 if self._has_token() else 401
            return _error(status, "GatedRepo", f"Access to {name} is restricted.")
        return found

    def _resolve(self, kind: str, parts: list[str]) -> Answer:
        """A file of a revision: the content of a small one, the location of a large one."""
        at = parts.index("resolve")
        found = self._repository(kind, "/".join(parts[:at]), files=True)
        if not isinstance(found, Repository):
            return found
        revision, path = parts[at + 1], "/".join(parts[at + 2 :])
        commit = found.find(revision)
        if commit is None:
            return _error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        content = found.commits[commit].get(path)
        if content is None:
            status, headers, body = _error(404, "EntryNotFound", "Entry not found")
            return status, {**headers, "X-Repo-Commit": commit}, body
        digest = sha256(content).hexdigest()
        if path.endswith(LARGE):
            self.server.large[digest], self.server.endings[digest] = content, Path(path).suffix
            size = {"X-Linked-Size": str(len(content)), "X-Linked-ETag": f'"{digest}"'}
            return 302, {"X-Repo-Commit": commit, "Location": f"{self.server.store}/{digest}", **size}, b""
        return 200, {"X-Repo-Commit": commit, "ETag": f'"{_git_id(content)}"'}, content

    def _large(self, digest: str) -> Answer:
        """Receive a large file, or send it from the start of the range."""
        if self.command == "PUT":
            self.server.large[digest] = self.body
            return 200, {"ETag": f'"{digest}"'}, b""
        if (content := self.server.large.get(digest)) is None:
            return _error(404)
        asked = self.headers.get("Range", "").removeprefix("bytes=")
        if not asked:
            return 200, {"ETag": f'"{digest}"', "Accept-Ranges": "bytes"}, content
        first, _, last = asked.partition("-")
        start, end = int(first), int(last or len(content) - 1)
        return 206, {"Content-Range": f"bytes {start}-{end}/{len(content)}"}, content[start : end + 1]

    def _api(self, kind: str, parts: list[str]) -> Answer:
        """Information on a repository and its revisions."""
        size = next((i for i in (1, 2) if parts[i : i + 1] in ([], *([step] for step in _STEPS))), 0)
        name, steps = "/".join(parts[:size]), parts[size:]
        found = self._repository(kind, name, files=steps[:1] in (["tree"], ["paths-info"]))
        if not isinstance(found, Repository):
            return found
        if steps == ["refs"]:
            branches = [
                {"name": ref, "ref": f"refs/heads/{ref}", "targetCommit": id_} for ref, id_ in found.refs.items()
            ]
            return _json({"branches": branches, "tags": [], "converts": []})
        if steps[:1] == ["commit"]:
            return self._commit(name, found, steps[1])
        if steps[:1] == ["preupload"]:
            return self._preupload()
        revision = steps[1] if len(steps) > 1 else "main"
        commit = found.find(revision)
        if commit is None and not (steps in ([], ["revision", "main"]) and not found.commits):
            return _error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        files = found.commits.get(commit or "", {})
        if steps[:1] == ["tree"]:
            return _json(_listing(files, "/".join(steps[2:]), "recursive" in self.query))
        if steps[:1] == ["paths-info"]:
            wanted = parse_qs(self.body.decode()).get("paths", [])
            everything = [entry for folder in _folders(files) for entry in _listing(files, folder, False)]
            return _json([entry for entry in everything if entry["path"] in wanted])
        siblings = [{"rfilename": path} for path in sorted(files)]
        known = {"id": name, "sha": commit, "private": found.private, "gated": "manual" if found.gated else False}
        return _json({**known, "disabled": False, "tags": [], "downloads": 0, "likes": 0, "siblings": siblings})

    def _create(self) -> Answer:
        asked = json.loads(self.body)
        if not self._has_token():
            return _error(401)
        name = f"{asked.get('organization') or USER}/{asked['name']}"
        address = {"url": f"{self.server.endpoint}/{name}", "name": name}
        if ("models", name) in self.server.repositories:
            return 409, {"X-Error-Message": "You already created this model repo"}, json.dumps(address).encode()
        self.server.repository("models", name).private = asked.get("visibility") == "private" or bool(
            asked.get("private")
        )
        return _json(address)

    def _preupload(self) -> Answer:
        files = json.loads(self.body)["files"]
        modes = [
            {
                "path": one["path"],
                "uploadMode": "lfs" if one["path"].endswith(LARGE) else "regular",
                "shouldIgnore": False,
            }
            for one in files
        ]
        return _json({"files": modes})

    def _batch(self, name: str) -> Answer:
        objects = [
            {**one, "actions": {"upload": {"href": f"{self.server.store}/{one['oid']}"}}}
            for one in json.loads(self.body)["objects"]
        ]
        return _json({"transfer": "basic", "objects": objects})

    def _commit(self, name: str, found: Repository, branch: str) -> Answer:
        files = dict(found.commits.get(found.find(branch) or "", {}))
        for line in self.body.decode().splitlines():
            step = json.loads(line)
            if step["key"] == "file":
                files[step["value"]["path"]] = base64.b64decode(step["value"]["content"])
            elif step["key"] == "lfsFile":
                files[step["value"]["path"]] = self.server.large[step["value"]["oid"]]
        commit = found.commit(files)
        return _json(
            {"commitOid": commit, "commitUrl": f"{self.server.endpoint}/{name}/commit/{commit}", "success": True}
        )


_STEPS = ("revision", "tree", "paths-info", "refs", "preupload", "commit")


def _json(value: Any) -> Answer:
    return 200, {"Content-Type": "application/json"}, json.dumps(value).encode()


def _error(status: int, code: str = "", message: str = "Not here.") -> Answer:
    headers = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {})}
    return status, {**headers, "Content-Type": "application/json"}, json.dumps({"error": message}).encode()


def _git_id(content: bytes) -> str:
    """The git id of a file."""
    return sha1(b"blob %d\0%b" % (len(content), content)).hexdigest()


def _folders(files: Mapping[str, bytes]) -> list[str]:
    """Every folder, top one first."""
    found = {""}
    for path in files:
        parts = path.split("/")[:-1]
        found |= {"/".join(parts[: i + 1]) for i in range(len(parts))}
    return sorted(found)


def _listing(files: Mapping[str, bytes], folder: str, recursive: bool) -> list[dict[str, Any]]:
    """Files and folders in a folder, and below it if `recursive`."""
    start = f"{folder}/" if folder else ""
    entries = []
    for path in _folders(files)[1:]:
        if path.startswith(start) and (recursive or "/" not in path.removeprefix(start)):
            entries.append({"type": "directory", "path": path, "oid": sha1(path.encode()).hexdigest(), "size": 0})
    for path, content in sorted(files.items()):
        if path.startswith(start) and (recursive or "/" not in path.removeprefix(start)):
            entry = {"type": "file", "path": path, "oid": _git_id(content), "size": len(content)}
            if path.endswith(LARGE):
                entry["lfs"] = {"oid": sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
            entries.append(entry)
    return entries
