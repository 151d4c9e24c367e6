"""The page over HTTP, for one person on this machine.

It listens on the loopback address alone. Other programs of this machine, other users, and pages of other places that the same browser has
open reach that too: so each request has to know a secret in its path, to be meant for this very address (which a name that was led here is
not) and, where a browser says from which page it comes, to come from this one. A request is bounded in size and in the time that it takes
to come in, and so are those that come at once. No file is served: what there is to ask for is `Bench.routes`.
"""

from __future__ import annotations

import json
import secrets
import socket
from collections.abc import Callable
from contextlib import suppress
from hmac import compare_digest
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import BoundedSemaphore, Lock, Timer
from typing import Any
from urllib.parse import unquote

from vcpuid.errors import InputError, UnavailableError, VcpuidError, tell_fault
from vcpuid.explore.bench import Bench, told
from vcpuid.explore.page import policies, served
from vcpuid.formats.files import SIZE_LIMIT
from vcpuid.numbers import decimal

ADDRESS = "127.0.0.1"
_JSON_LIMIT = 2 << 20
"""Bytes of a request in JSON: a domain's XML or an error text is in it."""
_PATIENCE = 20.0
"""Seconds for a request to come in, as a whole."""
_AT_ONCE = 16
"""Connections at a time; others wait."""


class Server(ThreadingHTTPServer):
    """Serves a bench on a port of the loopback address, 0 for one that is free. Raises UnavailableError where it cannot be had."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, bench: Bench, port: int = 0, *, patience: float = _PATIENCE) -> None:
        self.bench, self.patience = bench, patience
        self.token = secrets.token_urlsafe(18)
        self.one_at_a_time = Lock()
        self._free = BoundedSemaphore(_AT_ONCE)
        try:
            super().__init__((ADDRESS, port), _Handler)
        except OSError as error:
            raise UnavailableError(f"port {port} of {ADDRESS} cannot be had: {error.strerror}") from None

    @property
    def url(self) -> str:
        """Where the page is, with the secret that lets one ask for it."""
        return f"http://{ADDRESS}:{self.server_port}/{self.token}/"

    @property
    def hosts(self) -> tuple[str, str]:
        """What a browser calls this server in the Host header."""
        return f"{ADDRESS}:{self.server_port}", f"localhost:{self.server_port}"

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread of its own, where one is free."""
        self._free.acquire()
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve it, and let the next one in."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that goes away in the middle is nothing to tell of."""


class _Handler(BaseHTTPRequestHandler):
    server: Server
    server_version, sys_version = "vcpuid", ""

    def setup(self) -> None:
        """Give the whole request its time, byte by byte as it may come."""
        super().setup()
        self.clock = Timer(self.server.patience, self._give_up)
        self.clock.daemon = True
        self.clock.start()

    def _give_up(self) -> None:
        with suppress(OSError):  # it has gone by itself
            self.connection.shutdown(socket.SHUT_RD)

    def finish(self) -> None:
        """Stop the clock also where nothing came."""
        self.clock.cancel()
        super().finish()

    def do_GET(self) -> None:
        """Send the page."""
        self._answer(lambda route: self._send(HTTPStatus.OK, served().encode(), "text/html; charset=utf-8") if route == "" else None)

    def do_POST(self) -> None:
        """Send an answer."""
        self._answer(self._asked)

    def _answer(self, serve: Callable[[str], object]) -> None:
        refusal = self._refusal()
        if refusal is not None:
            self._send_json(*refusal)
        elif serve(self.path.removeprefix(f"/{self.server.token}/")) is None:
            self._send_json(HTTPStatus.NOT_FOUND, {"error": "there is no such page"})

    def _refusal(self) -> tuple[HTTPStatus, dict[str, object]] | None:
        """Say why a request is not served; None where it may be. What the secret is, is told to nobody by how long this takes."""
        named = self.headers.get_all("Host", [])
        if len(named) != 1 or named[0] not in self.server.hosts:
            return HTTPStatus.MISDIRECTED_REQUEST, {"error": "this is no server of that name"}
        origins = [f"http://{host}" for host in self.server.hosts]
        if any(origin not in origins for origin in self.headers.get_all("Origin", [])):
            return HTTPStatus.FORBIDDEN, {"error": "asked by another page"}
        if self.command != "GET" and self.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            return HTTPStatus.FORBIDDEN, {"error": "asked by another page"}
        secret = self.path.split("/")[1] if self.path.startswith("/") else ""
        if not compare_digest(secret.encode(), self.server.token.encode()) or not self.path.startswith(f"/{self.server.token}/"):
            return HTTPStatus.NOT_FOUND, {"error": "there is no such page; its address is the one that vcpuid explore printed"}
        return None

    def _asked(self, route: str) -> object:
        if route != "read" and route not in self.server.bench.routes:
            return None
        kind = "application/octet-stream" if route == "read" else "application/json"
        if self.headers.get_content_type() != kind:
            return self._send_json(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, {"error": f"it is to come as {kind}"})
        length = decimal(self.headers.get("Content-Length", ""))
        if length is None:
            return self._send_json(HTTPStatus.LENGTH_REQUIRED, {"error": "how long it is, is not told"})
        limit = SIZE_LIMIT if route == "read" else _JSON_LIMIT
        if length > limit:
            return self._send_json(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, {"error": f"more than {limit >> 20} MiB"})
        body = self.rfile.read(length)
        self.clock.cancel()
        if len(body) < length:
            return self._send_json(HTTPStatus.REQUEST_TIMEOUT, {"error": "it did not come in whole"})
        return self._send_json(*self._worked_out(route, body))

    def _worked_out(self, route: str, body: bytes) -> tuple[HTTPStatus, dict[str, Any]]:
        name = unquote(self.headers.get("X-Name", ""))[:200]
        try:
            with self.server.one_at_a_time:
                return HTTPStatus.OK, self.server.bench.answer(route, body, name)
        except InputError as error:
            return HTTPStatus.BAD_REQUEST, told(error)
        except VcpuidError as error:
            return HTTPStatus.UNPROCESSABLE_ENTITY, told(error)
        except Exception as error:
            return HTTPStatus.INTERNAL_SERVER_ERROR, {"error": tell_fault(error, "vcpuid itself", "")[1]}

    def _send_json(self, status: HTTPStatus, body: dict[str, Any]) -> bool:
        return self._send(status, json.dumps(body, separators=(",", ":")).encode(), "application/json")

    def _send(self, status: HTTPStatus, body: bytes, kind: str) -> bool:
        self.send_response(status)
        for name, value in (
            ("Content-Type", kind),
            ("Content-Length", str(len(body))),
            ("Content-Security-Policy", f"{policies()}; frame-ancestors 'none'"),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
            ("Referrer-Policy", "no-referrer"),
            ("Cross-Origin-Resource-Policy", "same-origin"),
            ("Cross-Origin-Opener-Policy", "same-origin"),
        ):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        return True

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse what http.server cannot read, in this server's own form: nothing of the request comes back."""
        self.close_connection = True
        self._send_json(HTTPStatus(code), {"error": HTTPStatus(code).phrase})

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the address of each request has the secret in it."""
