"""A web server on loopback that serves one file, as well or as badly as a test asks."""

import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server:
    """`bad`: one entry per request, in order; after them requests are answered properly.

    short: half of the body; page: an HTML page with status 200; chunked page: the same without a length; missing: 404;
    broken: 500; drip: a byte now and then; long: more than announced elsewhere; file: redirect to file:///etc/passwd;
    away: redirect to the same file under another name.
    """

    def __init__(self, content: bytes, etag: str | None = '"one"', ranges: bool = True):
        self.content, self.etag, self.ranges = content, etag, ranges
        self.bad: list[str] = []
        self.asked: list[str | None] = []  # the Range of every request
        self.sent = 0
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                with suppress(BrokenPipeError, ConnectionResetError):  # the client left
                    owner.answer(self)

            def log_message(self, *arguments: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/archive.tar.bz2"
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        asked = request.headers.get("Range")
        self.asked.append(asked)
        bad = self.bad.pop(0) if self.bad else ""
        if bad in ("missing", "broken"):
            return request.send_error(404 if bad == "missing" else 500)
        if bad in ("file", "away"):
            request.send_response(302)
            request.send_header("Location", "file:///etc/passwd" if bad == "file" else "/other")
            return request.end_headers()
        if bad.endswith("page"):
            page = b"<html>Not here</html>"
            request.send_response(200)
            request.send_header("Content-Type", "text/html")
            if bad == "page":
                request.send_header("Content-Length", str(len(page)))
            request.end_headers()
            request.wfile.write(page)
            return None
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and self.ranges else 0
        if start and request.headers.get("If-Range") not in (None, self.etag):
            start = 0
        if start >= len(self.content) > 0 and start:
            return request.send_error(416)
        body = self.content[start:]
        request.send_response(206 if start else 200)
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(self.content) - 1}/{len(self.content)}")
        if bad != "long":
            request.send_header("Content-Length", str(len(body)))
        if self.etag:
            request.send_header("ETag", self.etag)
        request.end_headers()
        if bad == "drip":
            for at in range(0, min(len(body), 40)):
                request.wfile.write(body[at : at + 1])
                request.wfile.flush()
                time.sleep(0.02)
            return None
        body = body[: len(body) // 2] if bad == "short" else body + b"more" if bad == "long" else body
        self.sent += len(body)
        request.wfile.write(body)
        return None
