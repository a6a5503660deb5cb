"""A worker that does what the request says: a JSON object whose members are told at `Handler.do_POST`."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

GLANCE = 0.01  # seconds between looks for a file, by which a test holds a worker


class Handler(BaseHTTPRequestHandler):
    """GET /ping and POST /invocations."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """/ping: 503 for as long as the file ECHO_UNHEALTHY_WHILE exists."""
        sick = os.environ.get("ECHO_UNHEALTHY_WHILE")
        self._answer(503 if sick and Path(sick).exists() else 200, b"", "text/plain")

    def do_POST(self) -> None:
        """/invocations: `hold` waits for a file; `chunks` streams, `cut` breaks off; else `status` with an echo."""
        text = self.rfile.read(int(self.headers["Content-Length"])).decode()
        asked = json.loads(text)
        if "hold" in asked and "chunks" not in asked:
            _wait_for(asked["hold"])
        if "chunks" in asked:
            self._stream(asked)
        else:
            echo = {
                "body": text,
                "headers": dict(self.headers.items()),
                "port": os.environ["SAGEMAKER_BIND_TO_PORT"],
                "greeting": os.environ.get("ECHO_GREETING"),
                "pid": os.getpid(),
            }
            content = asked["say"] if "say" in asked else json.dumps(echo)
            self._answer(asked.get("status", 200), content.encode(), "application/json")

    def _stream(self, asked: dict[str, Any]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/jsonl")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for chunk in asked["chunks"]:
            self.wfile.write(f"{len(chunk):x}\r\n{chunk}\r\n".encode())
            self.wfile.flush()
            if "hold" in asked:
                _wait_for(asked["hold"])
        if asked.get("cut"):
            self.close_connection = True
        else:
            self.wfile.write(b"0\r\n\r\n")

    def _answer(self, status: int, content: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: Any) -> None:
        """To standard output, which is the stand-in's log."""
        print(format % arguments, flush=True)


def _wait_for(path: str) -> None:
    while not Path(path).exists():
        time.sleep(GLANCE)


def main() -> None:
    """Serve on the port of the command line until SIGTERM; exit at once if ECHO_EXIT is set."""
    if status := os.environ.get("ECHO_EXIT"):
        sys.exit(int(status))
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
    server.daemon_threads = False  # what was begun is finished
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever(poll_interval=GLANCE)
    server.server_close()


if __name__ == "__main__":
    main()
