"""The pages of an LMDB file, read and never mapped: which of a tree's pages are what they should be.

LMDB's look-ups report a page that is none; its cursors, when they step from one leaf to the next, end the
program (an assertion in `mdb_cursor_next`). So a walk over a whole tree first looks at the heads of its pages
here: a few bytes of each leaf, and all of each branch. Source: `struct MDB_page` and `MDB_node` of LMDB 0.9.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, final

_PAGE = struct.Struct("=QHHHH")  # number, pad, flags, end of the pointers, start of the nodes
_NODE = struct.Struct("=HHHH")  # low and high half of a size or page number, flags or its highest part, length of key
_TREE = struct.Struct("=IHH32xQ")  # pad, flags, depth, root
_META_SIZE: Final = 152
_FREE: Final = 40  # where a meta page has its tree of free pages
_MAIN: Final = 88  # and that of named trees
_TRANSACTION: Final = 144
_PAGE_SIZE: Final = 40
_BRANCH: Final = 0x01
_LEAF: Final = 0x02
_OVERFLOW: Final = 0x04
_BIG: Final = 0x01
_SUBTREE: Final = 0x02
_KIND: Final = 0x7F
_NOTHING: Final = (1 << 64) - 1
# Deeper than 2**64 keys need.
_DEEPEST: Final = 32


@final
class Pages:
    """The trees of one file at one moment. Nobody may write it meanwhile; made by `reading`.

    `broken` has the numbers of pages that were reached and are not what they should be.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.broken: list[int] = []
        first = os.pread(fd, _META_SIZE, 0)
        (self._size,) = struct.unpack_from("=I", first, _PAGE_SIZE)
        second = os.pread(fd, _META_SIZE, self._size)
        newest = max(first, second, key=lambda meta: struct.unpack_from("=Q", meta, _TRANSACTION))
        self._free = self._tree(newest[_FREE:])
        nodes = self._nodes(*self._tree(newest[_MAIN:]))
        self._trees = {key: data for key, flags, data in nodes if flags & _SUBTREE and len(data) == _TREE.size}

    @classmethod
    @contextmanager
    def reading(cls, file: str) -> Iterator[Pages]:
        """Open a data file whose two meta pages were found whole (`lmdb_boot.check_data`)."""
        fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            yield cls(fd)
        finally:
            os.close(fd)

    def keys(self, name: bytes) -> Iterator[bytes]:
        """The keys of a named tree, in order, as far as its pages can be read."""
        if name in self._trees:
            for key, _, _ in self._nodes(*self._tree(self._trees[name])):
                yield key

    def free(self) -> set[int]:
        """The numbers of the pages that are in no use."""
        found: set[int] = set()
        for _, flags, data in self._nodes(*self._free):
            held = data
            if flags & _BIG:
                # What does not fit into a leaf lies in pages of its own; the leaf has the number of the first.
                (first,) = struct.unpack_from("=Q", data)
                length = struct.unpack_from("=Q", self._page(first, _OVERFLOW, _PAGE.size + 8) or bytes(24), _PAGE.size)
                held = os.pread(self._fd, 8 * (length[0] + 1), first * self._size + _PAGE.size)
            numbers = struct.unpack(f"={len(held) // 8}Q", held[: len(held) // 8 * 8])
            found.update(numbers[1 : 1 + numbers[0]])
        return found

    def check(self, name: bytes) -> list[int]:
        """The pages of a named tree that are not what they should be."""
        if name in self._trees:
            root, depth = self._tree(self._trees[name])
            for number in self._leaves(root, depth):
                self._page(number, _LEAF, _PAGE.size)
        return self.broken

    def _tree(self, record: bytes) -> tuple[int, int]:
        _, _, depth, root = _TREE.unpack_from(record)
        return root, min(depth, _DEEPEST)

    def _leaves(self, root: int, depth: int, above: tuple[int, ...] = ()) -> Iterator[int]:
        """The numbers of a tree's leaves, in order."""
        if root == _NOTHING or depth == 0:
            return
        if depth == 1:
            yield root
            return
        if root in above:
            self.broken.append(root)  # a circle, which would have no end
            return
        page = self._page(root, _BRANCH, self._size)
        for low, high, highest, _, _ in self._entries(root, page):
            yield from self._leaves(low | high << 16 | highest << 32, depth - 1, (*above, root))

    def _nodes(self, root: int, depth: int) -> Iterator[tuple[bytes, int, bytes]]:
        """The nodes of a tree's leaves: key, flags, and what lies behind the key."""
        for number in self._leaves(root, depth):
            page = self._page(number, _LEAF, self._size)
            for low, high, flags, length, at in self._entries(number, page):
                size = 8 if flags & _BIG else low | high << 16
                yield page[at : at + length], flags, page[at + length : at + length + size]

    def _entries(self, number: int, page: bytes) -> Iterator[tuple[int, int, int, int, int]]:
        """The heads of a page's nodes, and where the key of each begins."""
        if not page:
            return
        end = min(_PAGE.unpack_from(page)[3], len(page))
        for place in range(_PAGE.size, end - 1, 2):
            (at,) = struct.unpack_from("=H", page, place)
            if at + _NODE.size > len(page):
                self.broken.append(number)
                return
            low, high, flags, length = _NODE.unpack_from(page, at)
            yield low, high, flags, length, at + _NODE.size

    def _page(self, number: int, kind: int, size: int) -> bytes:
        """The first bytes of a page; b"" if it is not of the kind that it should be."""
        # A number that no file can have would be too large for pread.
        page = os.pread(self._fd, size, number * self._size) if number < 1 << 48 else b""
        if len(page) == size:
            found, _, flags, _, _ = _PAGE.unpack_from(page)
            if found == number and flags & _KIND == kind:
                return page
        self.broken.append(number)
        return b""
