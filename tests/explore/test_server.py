"""The server answers the browser that was given its address, and nobody else; what comes in is bounded in size and in time."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Iterator
from threading import Thread
from typing import Any, NamedTuple

import pytest

from support.captures import capture
from support.packed import unpack
from vcpuid import read
from vcpuid.errors import UnavailableError
from vcpuid.explore.bench import Bench, HostAtHand
from vcpuid.explore.server import ADDRESS, Server

SKYLAKE = capture("kvm-intel.corei7_skylake_x@6.12")
JSON = {"Content-Type": "application/json"}
FILE = {"Content-Type": "application/octet-stream"}


class Answer(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(Bench({"skylake": HostAtHand(read(SKYLAKE))}), patience=1.0) as made:
        thread = Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def ask(
    server: Server, method: str, route: str, body: bytes | None = None, headers: dict[str, str] | None = None, token: str | None = None
) -> Answer:
    """One request; `route` with a slash in front is the whole path."""
    connection = http.client.HTTPConnection(ADDRESS, server.server_port, timeout=20)
    path = route if route.startswith("/") else f"/{token or server.token}/{route}"
    connection.request(method, path, body, headers or {})
    answer = connection.getresponse()
    found = Answer(answer.status, answer.headers, answer.read())
    connection.close()
    return found


def raw(server: Server, data: bytes) -> bytes:
    """What comes back for bytes that need be no request."""
    with socket.create_connection((ADDRESS, server.server_port), timeout=20) as sent:
        sent.sendall(data)
        found = b""
        while part := sent.recv(65536):
            found += part
    return found


def test_it_listens_on_the_loopback_address_alone(server: Server) -> None:
    assert server.socket.getsockname()[0] == "127.0.0.1"
    assert server.url == f"http://127.0.0.1:{server.server_port}/{server.token}/"
    assert len(server.token) >= 24


def test_two_servers_have_two_secrets_and_two_ports(server: Server) -> None:
    with Server(Bench({})) as other:
        assert other.token != server.token
        assert other.server_port != server.server_port


def test_a_port_that_is_taken_is_said_to_be(server: Server) -> None:
    with pytest.raises(UnavailableError, match=f"port {server.server_port}"):
        Server(Bench({}), server.server_port)


@pytest.mark.long
def test_who_knows_the_address_gets_the_page_and_answers(server: Server) -> None:
    page = ask(server, "GET", "")
    assert page.status == 200
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert b'<div id="app">' in page.body
    answer = ask(
        server, "POST", "path", b'{"cpu": "Haswell"}', {**JSON, "Origin": f"http://{server.hosts[0]}", "Sec-Fetch-Site": "same-origin"}
    )
    assert answer.status == 200
    assert unpack(json.loads(answer.body))["path"]["cpu"] == "Haswell"


def test_every_answer_forbids_what_it_does_not_need(server: Server) -> None:
    for answer in (ask(server, "GET", ""), ask(server, "POST", "begin", b"{}", JSON), ask(server, "GET", "/"), ask(server, "PUT", "")):
        policy = dict(rule.strip().split(" ", 1) for rule in answer.headers["Content-Security-Policy"].split(";"))
        assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == policy["frame-ancestors"] == "'none'"
        assert policy["connect-src"] == "'self'"
        assert "unsafe" not in answer.headers["Content-Security-Policy"]
        assert policy["script-src"].startswith("'sha256-")
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert "Access-Control-Allow-Origin" not in answer.headers
        assert "Python" not in answer.headers["Server"]


@pytest.mark.parametrize("token", ["", "x", "{}x", "%00"])
@pytest.mark.parametrize(("method", "route"), [("GET", ""), ("POST", "path"), ("POST", "read")])
def test_without_the_secret_there_is_nothing(server: Server, token: str, method: str, route: str) -> None:
    path = f"/{token.format(server.token)}/{route}"
    answer = ask(server, method, path, b"{}" if method == "POST" else None, JSON)
    assert answer.status == 404
    assert server.token.encode() not in answer.body


def test_the_secret_without_the_slash_is_no_page(server: Server) -> None:
    assert ask(server, "GET", f"/{server.token}").status == 404


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{}", "127.0.0.1", "127.0.0.1:1", "[::1]:{}", "localhost.evil.example:{}", ""]
)
def test_a_request_that_was_meant_for_another_name_is_refused(server: Server, host: str) -> None:
    answer = ask(server, "GET", "", headers={"Host": host.format(server.server_port)})
    assert answer.status == 421
    assert b"app" not in answer.body


def test_two_names_or_none_are_refused(server: Server) -> None:
    path, good = f"/{server.token}/".encode(), server.hosts[0].encode()
    assert b" 421 " in raw(server, b"GET %s HTTP/1.0\r\n\r\n" % path).splitlines()[0]
    assert b" 421 " in raw(server, b"GET %s HTTP/1.0\r\nHost: %s\r\nHost: evil.example\r\n\r\n" % (path, good)).splitlines()[0]
    assert b" 200 " in raw(server, b"GET %s HTTP/1.0\r\nHost: %s\r\n\r\n" % (path, good)).splitlines()[0]


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "https://127.0.0.1:{}", "http://127.0.0.1", "http://127.0.0.1:{}.evil.example"]
)
def test_a_page_of_another_place_may_not_ask(server: Server, origin: str) -> None:
    answer = ask(server, "POST", "path", b"{}", {**JSON, "Origin": origin.format(server.server_port)})
    assert answer.status == 403
    assert ask(server, "POST", "path", b"{}", {**JSON, "Sec-Fetch-Site": "cross-site"}).status == 403


def test_a_form_of_another_place_could_not_even_send_it(server: Server) -> None:
    assert ask(server, "POST", "path", b"{}", {"Content-Type": "text/plain"}).status == 415
    assert ask(server, "POST", "read", b"{}", JSON).status == 415
    assert ask(server, "OPTIONS", "path", None, {"Origin": "http://evil.example"}).status == 501


@pytest.mark.parametrize(
    "route",
    [
        "../../../../etc/passwd",
        "..%2f..%2fetc/passwd",
        "/etc/passwd",
        "//etc/passwd",
        "page.js",
        "__init__.py",
        "path/../..",
        "?a=b",
        "\\..\\",
    ],
)
def test_there_are_no_files_to_be_had(server: Server, route: str) -> None:
    for method in ("GET", "POST"):
        answer = ask(server, method, f"/{server.token}/{route}", b"{}" if method == "POST" else None, JSON)
        assert answer.status == 404
        assert b"root:" not in answer.body


@pytest.mark.parametrize(("route", "headers", "limit"), [("path", JSON, 2 << 20), ("read", FILE, 16 << 20)])
def test_what_is_too_large_is_refused_before_it_is_read(server: Server, route: str, headers: dict[str, str], limit: int) -> None:
    head = f"POST /{server.token}/{route} HTTP/1.0\r\nHost: {server.hosts[0]}\r\nContent-Type: {headers['Content-Type']}\r\n"
    began = time.monotonic()
    answer = raw(server, f"{head}Content-Length: {limit + 1}\r\n\r\n".encode())
    assert b" 413 " in answer.splitlines()[0]
    assert time.monotonic() - began < 5
    assert b" 411 " in raw(server, f"{head}Content-Length: 9999999999999\r\n\r\n".encode()).splitlines()[0]
    for length in ("-1", "ten", "１", ""):
        assert b" 411 " in raw(server, f"{head}Content-Length: {length}\r\n\r\n".encode()).splitlines()[0]
    assert b" 411 " in raw(server, f"{head}Transfer-Encoding: chunked\r\n\r\n".encode()).splitlines()[0]


def test_a_file_that_unpacks_to_more_than_any_dump_is_refused(server: Server) -> None:
    import gzip

    answer = ask(server, "POST", "read", gzip.compress(b"\n" * (17 << 20)), FILE)
    assert answer.status == 400
    assert "16 MiB" in json.loads(answer.body)["error"]


@pytest.mark.long
def test_a_client_that_dribbles_is_given_up(server: Server) -> None:
    head = f"POST /{server.token}/path HTTP/1.0\r\nHost: {server.hosts[0]}\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"
    for begun in (b"G", head.encode() + b"{"):
        with socket.create_connection((ADDRESS, server.server_port), timeout=20) as slow:
            slow.sendall(begun)
            began, found = time.monotonic(), b""
            slow.settimeout(0.2)
            while time.monotonic() - began < 15:
                try:
                    part = slow.recv(4096)
                except TimeoutError:
                    slow.send(b" ")
                    continue
                except ConnectionError:
                    part = b""
                if not part:
                    break
                found += part
            assert time.monotonic() - began < 10
            assert b"did not come in whole" in found or b"Bad Request" in found or not found
    assert ask(server, "GET", "").status == 200


@pytest.mark.long
def test_many_that_say_nothing_do_not_keep_others_out_for_long(server: Server) -> None:
    silent = [socket.create_connection((ADDRESS, server.server_port)) for _ in range(40)]
    try:
        assert ask(server, "GET", "").status == 200
    finally:
        for one in silent:
            one.close()


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"A" * 70000 + b"\r\n",
        b"GET / HTTP/1.0\r\n" + b"A: b\r\n" * 200 + b"\r\n",
    ],
)
def test_what_is_no_request_is_refused_without_being_shown_again(server: Server, data: bytes) -> None:
    answer = raw(server, data)
    assert b"AAAA" not in answer
    assert b"Traceback" not in answer
    assert ask(server, "GET", "").status == 200


@pytest.mark.parametrize(
    ("route", "headers", "body", "status"),
    [
        ("path", JSON, b'{"cpu": "none of QEMU\'s"}', 422),
        ("path", JSON, b'{"host": "<b>none</b>"}', 400),
        ("path", JSON, b"{", 400),
        ("path", JSON, b'{"domain": "<domain>\\ud800</domain>"}', 400),
        ("read", FILE, b"\x00\x01", 400),
        ("read", FILE, b"nothing that is known", 400),
    ],
)
def test_an_error_is_one_line_of_json(server: Server, route: str, headers: dict[str, str], body: bytes, status: int) -> None:
    answer = ask(server, "POST", route, body, headers)
    told: Any = json.loads(answer.body)
    assert answer.status == status
    assert answer.headers["Content-Type"] == "application/json"
    assert len(told["error"].splitlines()) == 1


def test_a_fault_of_our_own_is_told_as_one(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Bench, "path", lambda *_: 1 / 0)
    answer = ask(server, "POST", "path", b"{}", JSON)
    assert answer.status == 500
    assert "a fault of vcpuid" in json.loads(answer.body)["error"]


def test_the_name_of_a_file_comes_in_the_form_of_an_address(server: Server) -> None:
    answer = ask(server, "POST", "read", SKYLAKE.read_bytes(), {**FILE, "X-Name": "%3Cb%3E%20%E2%80%A8.txt"})
    assert unpack(json.loads(answer.body))["host"] == "skylake"
    milan = capture("kvm-amd.EPYC-Milan-v2@7.3").read_bytes()
    answer = ask(server, "POST", "read", milan, {**FILE, "X-Name": "%3Cb%3E%20%E2%80%A8.txt"})
    assert unpack(json.loads(answer.body))["host"] == "<b> \u2028.txt"
