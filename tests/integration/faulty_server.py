"""The HTTP server of ``faults``: sends replies as they say, to the byte."""

from __future__ import annotations

import re
import socket
import ssl
import struct
import time
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol

_PIECE = 64 << 10


@dataclass(frozen=True)
class Request:
    """One request as it arrived; header names in lower case."""

    method: str
    path: str
    headers: dict[str, str]

    def range(self, size: int) -> tuple[int, int] | None:
        """First byte and the one after the last that the request wants of ``size``."""
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("range", ""))
        if found is None:
            return None
        return int(found[1]), min(int(found[2]) + 1, size) if found[2] else size


@dataclass(frozen=True)
class Reply:
    """What is sent, and how: ``cut``, ``stall`` and ``drip`` count bytes of the body."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    #: Reset the connection after so many bytes; with -1 before the status line.
    cut: int | None = None
    #: Send nothing more after so many bytes until the client goes away.
    stall: int | None = None
    #: One byte every so many seconds.
    drip: float | None = None
    #: Now and then a byte of the "head", or of a "chunk"'s length, without end.
    endless: str = ""
    #: Bytes a second over this connection.
    rate: float | None = None
    chunked: bool = False
    #: Neither a length nor chunks: the end of the connection ends the body.
    unbounded: bool = False


class Site(Protocol):
    """What answers requests and watches what is sent."""

    def reply(self, request: Request) -> Reply: ...

    def transmitted(self, request: Request, count: int) -> None: ...

    def opened(self, change: int) -> None: ...

    def wait_for_the_end(self, connection: socket.socket) -> None: ...

    def pause(self, seconds: float) -> None: ...


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256
    context: ssl.SSLContext | None = None

    def finish_request(self, request: Any, client_address: Any) -> None:
        if self.context is not None:
            request = self.context.wrap_socket(request, server_side=True, do_handshake_on_connect=False)
            try:
                request.do_handshake()
            except (OSError, ValueError):
                return self._refuse(request)
        with suppress(OSError):
            super().finish_request(request, client_address)
            if self.context is not None:
                request.close()

    @staticmethod
    def _refuse(connection: socket.socket) -> None:
        """Close such that the client can read the alert that it was sent."""
        with suppress(OSError):
            connection.settimeout(1)
            socket.socket.shutdown(connection, socket.SHUT_WR)
            while socket.socket.recv(connection, 4096):
                pass
        connection.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


def handler(front: Site) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def setup(self) -> None:
            super().setup()
            front.opened(1)

        def finish(self) -> None:
            front.opened(-1)
            with suppress(OSError):
                super().finish()

        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Request(self.command, self.path, headers)
            reply = front.reply(request)
            try:
                self._send(request, reply)
            except OSError:
                self.close_connection = True

        do_HEAD = do_GET

        def _send(self, request: Request, reply: Reply) -> None:
            if reply.cut == -1:
                return self._reset()
            if reply.stall == -1:
                front.wait_for_the_end(self.connection)
                self.close_connection = True
                return
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            if reply.endless == "head":
                self.flush_headers()
                return self._drip(b"X-Endless: ")
            if reply.chunked or reply.endless:
                self.send_header("Transfer-Encoding", "chunked")
            elif reply.unbounded:
                self.send_header("Connection", "close")
                self.close_connection = True
            elif "Content-Length" not in reply.headers:
                self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            if request.method == "HEAD":
                return
            if reply.endless == "chunk":
                return self._drip(b"1;")
            self._send_body(request, reply)

        def _drip(self, text: bytes) -> None:
            """Until the client goes away."""
            while True:
                self.wfile.write(text)
                text = b"x"
                front.pause(0.05)

        def _send_body(self, request: Request, reply: Reply) -> None:
            position = 0
            size = 1 if reply.drip else _PIECE
            ends = [at for at in (reply.cut, reply.stall, len(reply.body)) if at is not None]
            end = min(ends)
            while position < end:
                piece = reply.body[position : min(position + size, end)]
                front.transmitted(request, len(piece))
                if reply.chunked:
                    piece = b"%x\r\n%s\r\n" % (len(piece), piece)
                self.wfile.write(piece)
                position += min(size, end - position)
                if reply.drip:
                    front.pause(reply.drip)
                if reply.rate:
                    front.pause(size / reply.rate)
            if reply.cut is not None and reply.cut <= len(reply.body):
                return self._reset()
            if reply.stall is not None and reply.stall <= len(reply.body):
                front.wait_for_the_end(self.connection)
                self.close_connection = True
                return
            if reply.chunked:
                self.wfile.write(b"0\r\n\r\n")
            if "Content-Length" in reply.headers:
                self.close_connection = True

        def _reset(self) -> None:
            """Close without a goodbye, once what was sent has arrived: a reset throws the rest away."""
            self.wfile.flush()
            with suppress(OSError):
                for _ in range(200):
                    if not _unsent(self.connection):
                        break
                    time.sleep(0.005)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            with suppress(OSError):
                self.connection.close()
                self.rfile.close()
                self.wfile.close()

    return Handler


def _unsent(connection: socket.socket) -> int:
    """Bytes that the peer has not acknowledged (tcp(7), SIOCOUTQ)."""
    import fcntl

    answer = fcntl.ioctl(connection.fileno(), 0x5411, b"\0" * 4)
    return int(struct.unpack("i", answer)[0])
