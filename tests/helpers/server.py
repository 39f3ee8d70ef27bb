"""A server of one file on this machine, which can misbehave in many ways."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server(ThreadingHTTPServer):
    """Serves `content` at every address; `fault` says how it misbehaves."""

    daemon_threads = True

    def __init__(self, content):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = content
        self.fault = ""
        self.tag = '"first"'  # ETag; empty for none
        self.asked = []  # the Range of every request
        self.paths = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}/x/file.hdf5"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        content, fault = self.server.content, self.server.fault
        asked = self.headers.get("Range")
        self.server.asked.append(asked)
        self.server.paths.append(self.path)
        start = int(asked[6:-1]) if asked and fault != "no ranges" else 0
        if fault != "ignores If-Range" and self.headers.get("If-Range", "x") != self.server.tag:
            start = start if "If-Range" not in self.headers else 0

        if fault == "404" or (fault == "flat" and self.path.count("/") > 1):
            self.send_error(404)
        elif fault.startswith("to "):
            self.send_response(302)
            self.send_header("Location", fault[3:])
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif start and start >= len(content):
            self.send_error(416)
        else:
            self.answer(content, fault, start)

    def answer(self, content, fault, start):
        self.send_response(206 if start else 200)
        if start:
            first = start + 1 if fault == "wrong range" else start
            self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")

        if self.server.tag:
            self.send_header("ETag", self.server.tag)

        body = content[start:]
        announced = len(body)
        if fault == "short length":
            body = body[:-100]
            announced = len(body)
        elif fault == "long length":
            announced += 100
        elif fault == "truncated":
            body = content[start : len(content) // 2]
        if fault != "no length":
            self.send_header("Content-Length", str(announced))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass
