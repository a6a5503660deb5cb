"""A proxy before a server that lets requests fail on purpose: errors, and answers cut off in the middle."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

OWN = frozenset({"connection", "transfer-encoding", "content-length"})  # headers each hop makes itself


@dataclass(frozen=True)
class Asked:
    """A request as it comes by."""

    method: str
    path: str
    number: int  # of the requests so far, from 1


@dataclass(frozen=True)
class Refuse:
    """Answer with an error instead of asking on."""

    status: int
    code: str = "InternalError"


class Cut:
    """Send half of the answer's body and hang up."""


Fault = Refuse | Cut | None


@dataclass
class Proxy:
    """Forwards to `target`, but for what `fault` says of a request."""

    target: str
    fault: Callable[[Asked], Fault] = lambda _asked: None
    asked: list[Asked] = field(default_factory=list)
    url: str = ""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, method: str, path: str) -> Fault:
        """Count the request and say what becomes of it."""
        with self._lock:
            self.asked.append(Asked(method, path, len(self.asked) + 1))
            return self.fault(self.asked[-1])


@contextmanager
def before(target: str) -> Iterator[Proxy]:
    """A proxy before the server at an URL, as long as the context lasts."""
    proxy = Proxy(target)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(proxy))
    proxy.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _handler(proxy: Proxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            fault = proxy.note(self.command, self.path)
            if isinstance(fault, Refuse):
                message = f"<Error><Code>{fault.code}</Code><Message>on purpose</Message></Error>".encode()
                self.answer(fault.status, [("content-type", "application/xml")], message)
                return
            connection = http.client.HTTPConnection(urlsplit(proxy.target).netloc)
            connection.request(self.command, self.path, body, dict(self.headers.items()))
            response = connection.getresponse()
            content = response.read()
            length = int(response.getheader("content-length") or len(content))
            self.answer(response.status, response.getheaders(), content, length, cut=isinstance(fault, Cut))
            connection.close()

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = forward

        def answer(
            self,
            status: int,
            headers: list[tuple[str, str]],
            content: bytes,
            length: int | None = None,
            cut: bool = False,
        ) -> None:
            self.send_response_only(status)
            for name, value in headers:
                if name.lower() not in OWN:
                    self.send_header(name, value)
            self.send_header("content-length", str(len(content) if length is None else length))
            self.end_headers()
            if cut:
                self.close_connection = True
                content = content[: len(content) // 2]
            if self.command != "HEAD":
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    return Handler
