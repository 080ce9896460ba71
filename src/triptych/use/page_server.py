"""Serve the page of `triptych play`: only under this machine's own names, without uploads or large requests."""

import ipaddress
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from triptych.errors import ConfigError
from triptych.storage.files import leads_out
from triptych.use.page import STYLE, import_gradio
from triptych.use.page_html import REPORTS
from triptych.use.playground import MAX_CHARACTERS

MAX_REQUEST = 2 * 12 * MAX_CHARACTERS + 100_000  # bytes: an article and a reference, two JSON escapes per character
_POSTED = ("/gradio_api/queue/join", "/gradio_api/cancel", "/gradio_api/reset")  # everything that the page posts to
_WRITING = "/gradio_api/deep_link"  # a GET request that writes a file
# A report may come from a stranger: it is shown, but loads and requests nothing, not even from this server.
_CONFINED = (
    "sandbox allow-scripts allow-popups; default-src 'none'; img-src data:; font-src data:; "
    "style-src 'unsafe-inline'; script-src 'unsafe-inline'"
)
_LOCAL = ("localhost", "127.0.0.1", "[::1]")

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


def allowed_hosts(host: str) -> list[str]:
    """The names for this machine allowed in a request's Host header, without a port.

    Another site can make its name point here (DNS rebinding), but the browser still sends that name.

    Args:
        host: where the page listens; for all addresses at once (0.0.0.0 or ::), this machine's names and addresses.
    """
    try:
        everywhere = ipaddress.ip_address(host).is_unspecified
    except ValueError:  # a name
        everywhere = not host
    names = [host]
    if everywhere:
        addresses = [
            address.address
            for found in psutil.net_if_addrs().values()
            for address in found
            if address.family in (socket.AF_INET, socket.AF_INET6)
        ]
        names = [socket.gethostname(), socket.getfqdn(), *[address.partition("%")[0] for address in addresses]]
    return list(
        dict.fromkeys([*_LOCAL, *[f"[{name}]" if ":" in name else name.lower() for name in names if name != "*"]])
    )


class Gate:
    """Pass only requests of the page: no foreign origin, no upload, no request over `MAX_REQUEST` bytes.

    Args:
        app: the application that answers the passed requests.
        hosts: the hosts that scripts may come from: those of this machine.
    """

    def __init__(self, app: Application, hosts: list[str]):
        self._app, self._hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        if scope["type"] != "http":
            return None  # a websocket, which the page does not use; the server closes it
        if not self._from_here(dict(scope["headers"]).get(b"origin")):
            return await _answer(send, 403, "Another site's page may not ask this one.")
        path = scope["path"].rstrip("/")
        if path == _WRITING or (scope["method"] not in ("GET", "HEAD", "OPTIONS") and path not in _POSTED):
            return await _answer(send, 403, "Nothing is uploaded or kept here.")
        body = await _read(receive)
        if body is None:
            return await _answer(send, 413, f"A request has at most {MAX_REQUEST:,} bytes.")
        given = False

        async def again() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        return await self._app(scope, again, send)

    def _from_here(self, origin: bytes | None) -> bool:
        if origin is None:  # not from a script, or from one of this page
            return True
        try:
            host = urlsplit(origin.decode("latin-1")).hostname or ""
        except ValueError:
            return False
        return (f"[{host}]" if ":" in host else host) in self._hosts


async def _read(receive: Receive) -> bytes | None:
    """The body of a request; None if it is too large."""
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > MAX_REQUEST:
            return None
        if not message.get("more_body", False):
            return bytes(body)


async def _answer(send: Send, status: int, text: str) -> None:
    content = text.encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


def application(page: Any, host: str, out: Path | None = None) -> Any:
    """The page as an ASGI application that answers only requests for `allowed_hosts(host)`.

    Args:
        page: a page from `build_page`.
        host: the address it will listen on.
        out: a results folder whose reports are also served; None: no files are served.
    """
    gradio = import_gradio()
    from fastapi import FastAPI
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    hosts = allowed_hosts(host)
    outer = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    if out is not None:
        for name in REPORTS:
            outer.add_api_route(f"/{name}", _report(out / name, out), methods=["GET", "HEAD"], include_in_schema=False)
    theme = gradio.themes.Base(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
    gradio.mount_gradio_app(
        outer,
        page,
        path="/",
        server_name=host,
        theme=theme,
        css=STYLE,
        footer_links=[],
        show_error=False,
        ssr_mode=False,
        enable_monitoring=False,
        mcp_server=False,
        pwa=False,
        run_history=False,
        max_file_size="1kb",
    )
    outer.add_middleware(Gate, hosts=hosts)
    outer.add_middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False)
    return outer


def _report(file: Path, out: Path) -> Callable[[], Any]:
    """A route function that returns a report of a results folder."""
    from starlette.responses import FileResponse, PlainTextResponse

    def answer() -> Any:
        if not file.is_file() or leads_out(file, out):
            return PlainTextResponse("There is no such report. Write it with `triptych report`.", 404)
        confined = {"content-security-policy": _CONFINED} if file.suffix == ".html" else {}
        return FileResponse(file, headers={"x-content-type-options": "nosniff", **confined})

    return answer


@contextmanager
def serving(page: Any, host: str, port: int, out: Path | None = None) -> Iterator[str]:
    """Serve the page within the block, yielding its address.

    Args:
        page: a page from `build_page`.
        host: the address to listen on.
        port: the port to listen on; 0: any free one.
        out: as for `application`.

    Raises:
        ConfigError: there is no such host here, or the port is taken.
    """
    app = application(page, host, out)
    import uvicorn

    try:
        there = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except (OSError, OverflowError, UnicodeError) as error:
        reason = str(error).rstrip(".")
        raise ConfigError(
            f"The page cannot be served on {host}:{port}: {reason}. Give another --host or --port."
        ) from None
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [there]}, daemon=True)
    thread.start()
    try:
        while not server.started:
            if not thread.is_alive():
                raise ConfigError(f"The page cannot be served on {host}:{port}: the server ended at once.")
            time.sleep(0.02)
        yield f"http://{f'[{host}]' if ':' in host else host}:{there.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=5)
        there.close()


def launch(page: Any, host: str, port: int, out: Path | None = None) -> None:
    """Serve the page until Ctrl-C, and print its address once it is ready.

    Args:
        page: as for `serving`.
        host: as for `serving`.
        port: as for `serving`.
        out: as for `serving`.

    Raises:
        ConfigError: there is no such host here, or the port is taken.
    """
    with serving(page, host, port, out) as address:
        print(f"{address} (Ctrl-C ends it)", flush=True)
        threading.Event().wait()
