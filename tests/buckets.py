"""An S3 server of moto's, with a proxy in front of it that counts requests, and breaks those that it is told to."""

from __future__ import annotations

import http.client
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal

BUCKET = "sweeps"
Fault = Literal["busy", "slow", "cut", "half", "expired", "gone"]
"""503; an answer after two seconds; none, or half of one, over a connection that is cut; credentials that have
expired; nobody there."""

METHODS = ("GET", "PUT", "POST", "DELETE", "HEAD")
OWN = ("connection", "transfer-encoding", "server", "date")
"""Headers that are of a connection, and not of an answer."""

SIGNED = "AWS4-HMAC-SHA256 Credential=key/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"
"""As somebody whom the server knows; it asks no further."""

EXPIRED = b"<?xml version='1.0'?><Error><Code>ExpiredToken</Code><Message>The token has expired.</Message></Error>"


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    number: int
    """How many there have been before it."""


@dataclass
class S3:
    """The server as clients see it: its address, what was asked, and what goes wrong."""

    url: str
    server: str
    requests: Counter[str] = field(default_factory=Counter)
    """By method, and by method and folder of a sweep (``PUT artifacts``)."""
    secret: str = field(default_factory=lambda: secrets.token_hex(16))
    fault: Callable[[Request], Fault | None] = lambda request: None
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to reach it."""
        return {
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.url,
        }

    def new_bucket(self, name: str) -> str:
        """Make a bucket, past the proxy; its address."""
        urllib.request.urlopen(urllib.request.Request(f"{self.server}/{name}", method="PUT"), timeout=60).close()
        return f"s3://{name}"

    def copy(self, folder: Path, uri: str) -> None:
        """Copy a folder into a bucket, as ``aws s3 sync`` does, past the proxy."""
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.put(f"{uri}/{path.relative_to(folder)}", path.read_bytes())

    def put(self, uri: str, content: bytes) -> None:
        kind = {"Content-Type": "application/octet-stream", "Authorization": SIGNED}
        request = urllib.request.Request(f"{self.server}/{uri.removeprefix('s3://')}", content, kind, method="PUT")
        urllib.request.urlopen(request, timeout=60).close()

    def get(self, uri: str) -> bytes:
        request = urllib.request.Request(
            f"{self.server}/{uri.removeprefix('s3://')}", headers={"Authorization": SIGNED}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            content: bytes = answer.read()
        return content


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def s3_server(host: str = "127.0.0.1") -> Iterator[S3]:
    """A server that lives as long as the block, and its proxy, which listens on ``host``."""
    port = _free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"MOTO_S3_ALLOW_CROSSACCOUNT_ACCESS": "true"},
    )
    try:
        deadline = time.monotonic() + 120
        while True:
            assert process.poll() is None, "moto's server has ended"
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert time.monotonic() < deadline, "moto's server does not start"
                time.sleep(0.1)
        state = S3("", f"http://127.0.0.1:{port}")
        proxy = ThreadingHTTPServer((host, 0), _handler(state, port))
        proxy.daemon_threads = True
        state.url = f"http://{host}:{proxy.server_address[1]}"
        thread = threading.Thread(target=proxy.serve_forever, daemon=True)
        thread.start()
        try:
            yield state
        finally:
            proxy.shutdown()
            proxy.server_close()
    finally:
        process.terminate()
        process.wait()


def _handler(state: S3, port: int) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            """Nothing."""

        def _pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            with state.lock:
                request = Request(self.command, self.path, sum(state.requests[each] for each in METHODS))
                state.requests[self.command] += 1
                if self.path.count("/") > 4:
                    state.requests[f"{self.command} {self.path.split('/')[4]}"] += 1
            fault = state.fault(request)
            if fault == "gone":
                self.close_connection = True
                return
            if fault in ("busy", "expired"):
                self._answer(503 if fault == "busy" else 400, EXPIRED if fault == "expired" else b"")
                return
            if fault == "slow":
                time.sleep(2)
            upstream = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            try:
                upstream.request(self.command, self.path, body, dict(self.headers))
                answer = upstream.getresponse()
                content = answer.read()
                if fault == "cut":  # what was asked has been done, and nobody hears of it
                    self.close_connection = True
                    return
                headers = [(name, value) for name, value in answer.getheaders() if name.lower() not in OWN]
                self._answer(answer.status, content, headers, half=fault == "half")
            finally:
                upstream.close()

        def _answer(
            self, status: int, content: bytes, headers: list[tuple[str, str]] | None = None, half: bool = False
        ) -> None:
            self.send_response(status)
            for name, value in headers or []:
                self.send_header(name, value)
            if not any(name.lower() == "content-length" for name, _ in headers or []):
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content[: len(content) // 2] if half else content)
            self.close_connection = self.close_connection or half

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _pass_on  # noqa: N815

    return Handler
