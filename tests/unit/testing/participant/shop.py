"""A small participant over HTTP that is right, and can be made wrong in one way at a time.

Owns: a shop that keeps keys and outcomes, each of whose duties can be left out by its name.
"""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SECONDS_MAX = 10


class Shop(ThreadingHTTPServer):
    """Take orders at /order, undo them at /undo, tell at /state how many stand.

    Args:
        without: The duty that it leaves out; empty for none.
        rivals: How many calls meet before any of them acts, where it does not lock.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, without="", rivals=0):
        super().__init__(("127.0.0.1", 0), Request)
        self.without = without
        self.lock = threading.Lock()
        self.meeting = threading.Barrier(rivals) if rivals else None
        self.answers = {}
        self.bodies = {}
        self.undone = set()
        self.tokens = {}
        self.standing = 0
        self.orders = 0

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle(self, path, headers, body):
        if path == "/undo":
            with self.lock:
                return self.undo(headers["Aumai-Compensates"])
        key = headers["Idempotency-Key"]
        if self.meeting is not None and key not in self.answers and self.is_of_rivals(headers):
            self.meeting.wait(SECONDS_MAX)
            with self.lock:
                return self.order(key, body)
        with self.lock:
            return self.checked(key, headers, body)

    @staticmethod
    def is_of_rivals(headers):
        # The third transaction of a check: several calls of it come at once.
        return headers["Aumai-Transaction"].endswith("-3")

    def checked(self, key, headers, body):
        token, transaction = int(headers["Aumai-Token"]), headers["Aumai-Transaction"]
        if token < self.tokens.get(transaction, 0) and self.without != "fencing":
            return 412, {"error": "stale"}
        self.tokens[transaction] = max(token, self.tokens.get(transaction, 0))
        if key in self.undone and self.without != "tombstone":
            return 410, {"error": "undone before"}
        if key in self.answers and self.without != "keys":
            if self.bodies[key] != body:
                if self.without == "bodies":
                    return self.order(key, body)
                if self.without == "refusing bodies":
                    return self.answers[key]
                return 422, {"error": "key reused"}
            if self.without == "answers":
                return 201, {"order": -1}
            if self.without == "refusals" and self.answers[key][0] == 422:
                return 201, {"order": 0}
            return self.answers[key]
        return self.order(key, body)

    def order(self, key, body):
        self.bodies[key] = body
        if body.get("what") == "nothing":
            self.answers[key] = 422, {"error": "sold out"}
            self.standing += self.without == "refusing without effect"
            return self.answers[key]
        self.orders += 1
        self.standing += 1
        self.answers[key] = 201, {"order": self.orders}
        return self.answers[key]

    def undo(self, key):
        is_done = self.answers.get(key, (0,))[0] == 201
        is_again = key in self.undone
        self.undone.add(key)
        if self.without == "undoing":
            return 200, {}
        if is_again and self.without == "answering again":
            return 409, {"error": "undone already"}
        if not is_done and self.without == "undoing nothing":
            return 400, {"error": "no such order"}
        should = is_done and not is_again
        if (is_again and is_done and self.without == "undoing once") or (
            not is_done and not is_again and self.without == "looking first"
        ):
            should = True
        self.standing -= should
        return (200, {}) if should else (404, {"error": "nothing to undo"})


class Request(BaseHTTPRequestHandler):
    """Answer one request."""

    protocol_version = "HTTP/1.1"
    server: Shop

    def do_GET(self):
        self.send(200, {"standing": self.server.standing, "list": ["x"] * 3, "text": "no"})

    def do_POST(self):
        length = int(self.headers["Content-Length"])
        body = json.loads(self.rfile.read(length))
        self.send(*self.server.handle(self.path, self.headers, body))

    def send(self, status, body):
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format, *arguments):  # noqa: A002 (its name is given)
        """Keep quiet."""


@contextmanager
def running(server):
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join(SECONDS_MAX)
        server.server_close()
