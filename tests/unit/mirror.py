"""A mirror of releases on the loopback that cuts answers short, sends elsewhere, or knows no ranges."""

from __future__ import annotations

import re
import ssl
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Mirror:
    """What the server gives, and what it was asked for."""

    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    cut_at: list[int] = field(default_factory=list)
    """Break the next answers of the archive after so many bytes."""
    ranges: bool = True
    status: int = 0
    redirect: dict[str, str] = field(default_factory=dict)
    url: str = ""

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        wanted = request.headers.get("Range")
        self.asked.append((request.path.rpartition("/")[2], wanted))
        if request.path in self.redirect:
            request.send_response(302)
            request.send_header("Location", self.redirect[request.path])
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        content = self.files.get(request.path)
        if content is None or self.status:
            request.send_error(self.status or 404)
            return
        start = int(re.findall(r"\d+", wanted)[0]) if wanted and self.ranges else 0
        if wanted and self.ranges and start >= len(content):
            request.send_error(416)
            return
        request.send_response(206 if start else 200)
        request.send_header("Content-Length", str(len(content) - start))
        request.end_headers()
        cut = self.cut_at.pop(0) if self.cut_at and request.path.endswith(".gz") else None
        request.wfile.write(content[start:cut])
        request.close_connection = True


def serve(mirror: Mirror, context: ssl.SSLContext | None = None) -> ThreadingHTTPServer:
    """Serve a mirror on a free port of the loopback."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            mirror.answer(self)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    mirror.url = f"{'https' if context else 'http'}://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    return server
