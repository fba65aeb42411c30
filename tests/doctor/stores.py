"""Real HTTP servers in the place of a store: ones that refuse, have another time, or heed no condition."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, ClassVar

from deploy.demo.ports import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Iterator


class Store(ThreadingHTTPServer):
    """A store that answers all alike, and has the time that it is told."""

    daemon_threads = True
    code, status, ahead = "", 200, 0.0


class Answer(BaseHTTPRequestHandler):
    server: Store

    def date_time_string(self, timestamp: float | None = None) -> str:
        return format_datetime(datetime.now(UTC) - timedelta(seconds=self.server.ahead), usegmt=True)

    def do_GET(self) -> None:
        code = self.server.code
        body = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode() if code else b""
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_PUT = do_DELETE = do_GET

    def log_message(self, format: str, *arguments: object) -> None:
        pass


class Careless(Answer):
    """Keeps objects and heeds no condition."""

    protocol_version = "HTTP/1.1"  # else botocore waits a second for leave to send each body
    kept: ClassVar[dict[str, bytes]] = {}

    def say(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), "ETag": '"1"'}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_PUT(self) -> None:
        self.kept[self.path] = self.rfile.read(int(self.headers["Content-Length"]))
        self.say(200)

    def do_GET(self) -> None:
        if "list-type" in self.path:
            self.say(200, b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>")
        else:
            self.say(200 if self.path in self.kept else 404, self.kept.get(self.path, b""))

    def do_DELETE(self) -> None:
        del self.kept[self.path]
        self.say(204)


@contextmanager
def standing_in(
    code: str = "", status: int = 200, ahead: float = 0.0, handler: type[Answer] = Answer
) -> Iterator[dict[str, object]]:
    """Options of a job that reaches such a store."""
    with Store((LOOPBACK, 0), handler) as server:
        server.code, server.status, server.ahead = code, status, ahead
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield {"endpoint_url": f"http://{LOOPBACK}:{server.server_port}", "attempts": 1}
        server.shutdown()
