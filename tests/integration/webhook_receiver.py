"""A receiver of webhooks, as somebody who has read only the specification would write one.

Owns: `Receiver`, which checks every signature with code of its own and keeps what it was told.
"""

import base64
import hashlib
import hmac
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Told:
    """One request that was accepted as genuine."""

    def __init__(self, headers, body):
        self.id = headers["webhook-id"]
        self.timestamp = int(headers["webhook-timestamp"])
        self.body = body
        self.json = json.loads(body)

    @property
    def type(self):
        return self.json["type"]

    @property
    def data(self):
        return self.json["data"]


class Receiver:
    """Listen on loopback.

    Args:
        secret: As both sides know it.
        answer: Returns the status to answer with, given what was told.
    """

    def __init__(self, secret, answer=lambda told: 200, location=None):
        self.told: list[Told] = []
        self.forged: list[bytes] = []
        self._guard = threading.Lock()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                if not receiver.is_genuine(self.headers, body, secret):
                    receiver.forged.append(body)
                    self.send_error(401)
                    return
                told = Told(self.headers, body)
                with receiver._guard:
                    receiver.told.append(told)
                self.send_response(answer(told))
                if location:
                    self.send_header("Location", location)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def do_GET(self):
                receiver.forged.append(b"GET")
                self.send_error(405)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook?key=in-the-query"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @staticmethod
    def is_genuine(headers, body, secret):
        key = base64.b64decode(secret[6:]) if secret.startswith("whsec_") else secret.encode()
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        wanted = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        return f"v1,{wanted}" in headers["webhook-signature"].split(" ")

    def close(self):
        self._server.shutdown()
        self._server.server_close()
