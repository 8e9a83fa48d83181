"""Make a TCP port of another host appear on the loopback address of this one.

The tests' references say ``127.0.0.1:5000#image``, which has to mean the same registry on every
node. One small process a node; no packet filter rules, which would need more than a bare machine has.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cluster.host import Host


def start(host: Host, listen: str, target: str) -> None:
    """Start a forwarder on ``host``, in the background."""
    background = 'exec setsid "$@" >/dev/null 2>&1 &'
    command = ["sh", "-c", background, "sh", sys.executable, "-I", __file__, listen, target]
    host.run(command, machine_files=True)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except OSError:
        writer.close()


async def _serve(listen: str, target: str) -> None:
    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            remote_reader, remote_writer = await asyncio.open_connection(*_address(target))
        except OSError:
            writer.transport.abort()  # what a client of a registry that is down would see
            return
        await asyncio.gather(_copy(reader, remote_writer), _copy(remote_reader, writer))
        writer.close()
        remote_writer.close()

    server = await asyncio.start_server(connect, *_address(listen))
    async with server:
        await server.serve_forever()


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


if __name__ == "__main__":
    asyncio.run(_serve(*sys.argv[1:]))
