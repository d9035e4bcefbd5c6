"""A WebSocket client that keeps to no rule: for what a well-behaved library would never send.

It makes the opening handshake, then sends and reads single frames, or bytes that are no frames. It answers
nothing by itself: no ping, no close.
"""

from __future__ import annotations

import json
import struct
from typing import Any, NamedTuple, Self

import trio

TEXT, BINARY, CLOSE, PING, PONG, CONT = 1, 2, 8, 9, 10, 0

HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)


class Frame(NamedTuple):
    """One frame as it came; `code` and `text` are those of a close frame."""

    opcode: int
    payload: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.payload)

    @property
    def closing(self) -> tuple[int, str]:
        """The code and reason of a close frame."""
        return struct.unpack("!H", self.payload[:2])[0], self.payload[2:].decode()


def encode(opcode: int, payload: bytes = b"", *, fin: bool = True, masked: bool = True) -> bytes:
    """A client's frame; its mask is all zeros, which is as good as any."""
    head = bytes([opcode | (0x80 if fin else 0)])
    mask = 0x80 if masked else 0
    if len(payload) < 126:
        head += bytes([mask | len(payload)])
    elif len(payload) < 1 << 16:
        head += bytes([mask | 126]) + struct.pack("!H", len(payload))
    else:
        head += bytes([mask | 127]) + struct.pack("!Q", len(payload))
    return head + (bytes(4) if masked else b"") + payload


class RawWebSocket:
    """One connection. Use it as `async with await RawWebSocket.open(address) as raw:`."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._buffer = bytearray()

    @classmethod
    async def connect(cls, address: str, *, receive_buffer: int | None = None) -> Self:
        """Connect, and say nothing."""
        host, _, port = address.rpartition(":")
        sock = trio.socket.socket()
        if receive_buffer is not None:
            # Before the connect: the window is agreed on then.
            sock.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, receive_buffer)
        await sock.connect((host, int(port)))
        return cls(trio.SocketStream(sock))

    @classmethod
    async def open(cls, address: str, *, headers: bytes = b"", receive_buffer: int | None = None) -> Self:
        """Connect and make the opening handshake; raises EOFError with the answer if it is refused."""
        raw = await cls.connect(address, receive_buffer=receive_buffer)
        await raw.stream.send_all(HANDSHAKE + headers + b"\r\n")
        while b"\r\n\r\n" not in raw._buffer:
            await raw._more()
        head = await raw._take(raw._buffer.index(b"\r\n\r\n") + 4)
        if b" 101 " not in head.splitlines()[0]:
            await trio.aclose_forcefully(raw.stream)
            raise EOFError(head.splitlines()[0].decode())
        return raw

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await trio.aclose_forcefully(self.stream)

    async def send(self, frame: dict[str, Any] | str | bytes, opcode: int = TEXT) -> None:
        """Send one frame: a dict as JSON text, text or bytes as they are."""
        payload = json.dumps(frame).encode() if isinstance(frame, dict) else frame
        await self.stream.send_all(encode(opcode, payload.encode() if isinstance(payload, str) else payload))

    async def receive(self) -> Frame:
        """The next frame. Raises EOFError at the end of the connection, however it came."""
        head = await self._take(2)
        length = head[1] & 0x7F
        if length == 126:
            (length,) = struct.unpack("!H", await self._take(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", await self._take(8))
        return Frame(head[0] & 0x0F, await self._take(length))

    async def receive_json(self) -> Any:
        """The next text frame as JSON; other frames are skipped."""
        while True:
            frame = await self.receive()
            if frame.opcode == TEXT:
                return frame.json

    async def rest(self) -> list[Frame]:
        """All frames up to the end of the connection."""
        found = []
        while True:
            try:
                found.append(await self.receive())
            except EOFError:
                return found

    async def rest_until_close(self) -> list[Frame]:
        """All frames up to the close frame."""
        found = [await self.receive()]
        while found[-1].opcode != CLOSE:
            found.append(await self.receive())
        return found

    async def reset(self) -> None:
        """End the connection with a TCP reset."""
        linger = struct.pack("ii", 1, 0)
        self.stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, linger)
        await trio.aclose_forcefully(self.stream)

    async def _take(self, count: int) -> bytes:
        while len(self._buffer) < count:
            await self._more()
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    async def _more(self) -> None:
        try:
            data = await self.stream.receive_some(1 << 16)
        except trio.BrokenResourceError:
            data = b""
        if not data:
            raise EOFError("the connection has ended")
        self._buffer += data
