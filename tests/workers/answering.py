"""A real HTTP server that answers as it is told, for what no well-behaved server would say."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ECHO = "the answer"
MODELS = {"object": "list", "data": [{"id": "gemma"}, {"id": "other"}]}


@dataclass
class Asked:
    """One request, as it came in, names of headers in small letters. What is no completion has no body, and
    its `question` is empty."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any] = field(default_factory=dict)

    @property
    def question(self) -> str:
        content = self.body["messages"][0]["content"] if self.body else []
        return "".join(item.get("text", "") for item in content)


@dataclass
class Said:
    """What to answer; with `status` 0 the connection is closed without a word."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)


Script = Callable[[Asked], Said]


def completion(text: str | None = ECHO, finish: str = "stop", **more: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    return {"choices": [{"index": 0, "message": message, "finish_reason": finish}], **more}


def error(message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "told"}}


def healthy(asked: Asked) -> Said:
    if asked.path.endswith("/models"):
        return Said(body=MODELS)
    return Said(body=completion(usage={"prompt_tokens": 11, "completion_tokens": 2}))


@dataclass
class Server:
    """`url` is the API's; `script` may be set at any time; `seen` is in the order of arrival."""

    url: str
    script: Script = healthy
    seen: list[Asked] = field(default_factory=list)

    @property
    def questions(self) -> list[str]:
        return [asked.question for asked in self.seen if asked.body]


@contextmanager
def answering(script: Script = healthy, port: int = 0) -> Iterator[Server]:
    """The server, for as long as the block lasts; every connection of it ends with it."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(Asked(self.path, self._headers()))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self._answer(Asked(self.path, self._headers(), body))

        def _headers(self) -> dict[str, str]:
            return {name.lower(): value for name, value in self.headers.items()}

        def _answer(self, asked: Asked) -> None:
            server.seen.append(asked)
            said = server.script(asked)
            self.close_connection = True
            if not said.status:
                return
            body = said.body if isinstance(said.body, bytes) else json.dumps(said.body).encode()
            self.send_response(said.status)
            for name, value in {"Content-Type": "application/json", **said.headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Not to standard error."""

    class Listener(ThreadingHTTPServer):
        allow_reuse_address = True
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that does not wait for its answer is part of the game."""

    with Listener(("127.0.0.1", port), Handler) as listener:
        server = Server(f"http://127.0.0.1:{listener.server_address[1]}/v1", script)
        thread = threading.Thread(target=listener.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            listener.shutdown()
            thread.join()
