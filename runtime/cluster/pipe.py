"""A pipe: one byte stream with its TLS, as a link needs it: written at once where it can be, read in large pieces.

A stream that is a socket is read and written by its descriptor: one system call when it is ready, and no pass of the
loop between a message that has come and the answers to it. Any other stream, as a simulated one, is used as Trio
offers it. Two tasks may use a pipe, one that reads and one that writes.

`trio.SSLStream` does the same and more: it takes a lock, a task's turn and a record of TLS for each piece. Here what
has gathered is encrypted in one go and written with one call.
"""

from __future__ import annotations

import os
from typing import Final, final

import trio

from .handshake import Refusal
from .tls import Cipher, Vouched

# Bytes that are read at once: while nobody knows who the other side is, and later.
FIRST_PIECE: Final = 4096
PIECE: Final = 64 << 10


@final
class Pipe:
    """Bytes to and from another node.

    Args:
        stream: it belongs to the pipe from now on.
        cipher: its TLS; None: clear text.

    Attributes:
        most: bytes that are read at once.
    """

    __slots__ = ("_cipher", "_descriptor", "_left", "most", "stream")

    def __init__(self, stream: trio.abc.Stream, cipher: Cipher | None) -> None:
        self.stream = stream
        self.most = FIRST_PIECE
        self._cipher = cipher
        self._descriptor = stream.socket.fileno() if isinstance(stream, trio.SocketStream) else -1
        # What `offer` could not write; nothing else may be written before it.
        self._left: bytes | memoryview = b""

    async def secure(self) -> Vouched | None:
        """Do TLS's handshake; who the other side is, or None in clear text.

        Raises:
            Refusal: `tls`, `role` or `left`.
            trio.BrokenResourceError: the connection broke.
        """
        cipher = self._cipher
        if cipher is None:
            return None
        data = b""
        while not cipher.done:
            try:
                answer = cipher.begin(data)
            except Refusal:
                self._attempt(cipher.last_words())
                raise
            await self._send(answer)
            if not cipher.done:
                data = await self._receive()
                if not data:
                    raise Refusal("left", "the other side ended the connection within TLS's handshake")
        return cipher.vouched()

    async def receive(self) -> bytes:
        """The next bytes; none at the end. A checkpoint.

        Raises:
            trio.BrokenResourceError, trio.ClosedResourceError: the connection broke, or was closed here.
            Refusal: `tls`: what came is not TLS any more.
        """
        cipher = self._cipher
        if cipher is None:
            return await self._receive()
        inside = cipher.decrypt(b"") if self.most == FIRST_PIECE else b""  # what came with the handshake
        while inside == b"":
            data = await self._receive()
            inside = cipher.decrypt(data) if data else None
        return inside or b""

    def offer(self, data: bytes) -> bool:
        """Write bytes now, without waiting; False: not all could be, and `flush` has to be awaited next.

        Raises: trio.BrokenResourceError.
        """
        return self._attempt(self._cipher.encrypt(data) if self._cipher is not None else data)

    def go_on(self) -> bool:
        """Write of what `offer` has left as much as can be without waiting; whether that was all. Raises as `offer`."""
        if self._descriptor < 0:
            return False
        self._left = self._left[self._written(self._left) :]
        return not self._left

    async def flush(self) -> None:
        """Write what `offer` has left, also what is left meanwhile. Raises as `receive`."""
        if self._descriptor < 0:
            left, self._left = self._left, b""
            await self.stream.send_all(left)
            return
        while self._left:
            await trio.lowlevel.wait_writable(self._descriptor)
            self._left = self._left[self._written(self._left) :]

    async def send(self, data: bytes) -> None:
        """Write bytes, all of them. Raises as `receive`."""
        if not self.offer(data):
            await self.flush()

    def hand_over(self) -> tuple[trio.abc.Stream, Cipher | None]:
        """The stream and its TLS, for somebody else to go on with; the pipe is of no more use."""
        return self.stream, self._cipher

    async def aclose(self) -> None:
        """Close the connection, whatever is left; never waits for the other side."""
        self._descriptor = -1
        await trio.aclose_forcefully(self.stream)

    async def _send(self, data: bytes) -> None:
        if not self._attempt(data):
            await self.flush()

    async def _receive(self) -> bytes:
        if self._descriptor < 0:
            return bytes(await self.stream.receive_some(self.most))
        while True:
            await trio.lowlevel.wait_readable(self._descriptor)
            try:
                return os.read(self._descriptor, self.most)
            except BlockingIOError:
                continue  # a readiness that was none, as the system may report
            except OSError as error:
                raise trio.BrokenResourceError(f"the connection broke: {error}") from error

    def _attempt(self, data: bytes) -> bool:
        if not data:
            return True
        if self._descriptor < 0:
            self._left = data
            return False
        done = self._written(data)
        if done == len(data):
            return True
        self._left = memoryview(data)[done:]
        return False

    def _written(self, data: bytes | memoryview) -> int:
        try:
            return os.write(self._descriptor, data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise trio.BrokenResourceError(f"the connection broke: {error}") from error
