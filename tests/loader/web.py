"""A web server on loopback for a folder, as well or as badly as a test asks."""

import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Web:
    """`bad`: for the end of a path, one fault per request: short (half of the body), missing (404), broken (500)."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.bad: dict[str, list[str]] = {}
        self.asked: list[str] = []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                with suppress(BrokenPipeError, ConnectionResetError):
                    owner.answer(self)

            def log_message(self, *arguments: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        self.asked.append(request.path)
        faults = next(
            (faults for end, faults in self.bad.items() if request.path.endswith(end) and faults), None
        )
        fault = faults.pop(0) if faults else ""
        path = self.folder / request.path.lstrip("/")
        if fault in ("missing", "broken") or not path.is_file():
            return request.send_error(500 if fault == "broken" else 404)
        body, asked = path.read_bytes(), request.headers.get("Range")
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        request.send_response(206 if start else 200)
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        request.send_header("Content-Length", str(len(body) - start))
        request.send_header("ETag", f'"{path.stat().st_mtime_ns}"')
        request.end_headers()
        end = (start + len(body)) // 2 if fault == "short" else len(body)
        request.wfile.write(body[start:end])
        return None
