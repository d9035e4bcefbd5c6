"""A supervision tree or a message trace in the forms of other tools: DOT, Mermaid and SVG. Pure.

Source: Graphviz's DOT language; Mermaid's flowchart and sequence diagram; SVG 1.1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from .processes import printable
from .queries import TreeNode

# How far apart the lines of an SVG stand, how far in each storey, and how wide a character is, in pixels.
LINE, STEP, WIDTH = 22, 24, 7.3
_COLORS = {"running": "#2e7d32", "suspended": "#b26a00", "stopping": "#b26a00"}
_DEAD = "#b71c1c"


def _walk(root: TreeNode) -> Iterator[tuple[int, int | None, int, TreeNode]]:
    """Each node in order: its number, its parent's, its depth, itself."""
    waiting: list[tuple[int | None, int, TreeNode]] = [(None, 0, root)]
    number = 0
    while waiting:
        parent, depth, node = waiting.pop()
        yield number, parent, depth, node
        waiting += [(number, depth + 1, one) for one in reversed(node.children)]
        number += 1


def dot(root: TreeNode) -> Iterator[str]:
    """A tree for Graphviz: `banyan tree --dot | dot -Tpng`."""
    yield "digraph supervision {"
    yield '  node [shape=box, fontname="sans-serif"];'
    for number, parent, _, node in _walk(root):
        shape = ', style="rounded"' if node.restarts is None else ""
        yield f"  n{number} [label={_quoted(_label(node))}{shape}];"
        if parent is not None:
            yield f"  n{parent} -> n{number};"
    yield "}"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _label(node: TreeNode) -> str:
    return printable(f"{node.name} {node.pid or '-'} {node.state}")


def mermaid(root: TreeNode) -> Iterator[str]:
    """A tree as a Mermaid flowchart."""
    yield "flowchart TD"
    for number, parent, _, node in _walk(root):
        opened, closed = ("[", "]") if node.restarts is not None else ("(", ")")
        yield f'  n{number}{opened}"{_entities(_label(node))}"{closed}'
        if parent is not None:
            yield f"  n{parent} --> n{number}"


def _entities(text: str) -> str:
    """Text as Mermaid takes it within quotes."""
    return "".join(f"#{ord(c)};" if c in '"#;<>&`' else c for c in text)


def svg(root: TreeNode) -> Iterator[str]:
    """A tree as a picture: a line for each process, coloured by its state."""
    found = list(_walk(root))
    texts = [printable(node.describe()) for _, _, _, node in found]
    wide = max(depth * STEP + len(text) * WIDTH for (_, _, depth, _), text in zip(found, texts, strict=True)) + 60
    high = len(found) * LINE + 20
    yield f'<svg xmlns="http://www.w3.org/2000/svg" width="{wide:.0f}" height="{high}" font-family="monospace" '
    yield 'font-size="12" role="img" aria-label="supervision tree">'
    yield '<rect width="100%" height="100%" fill="white"/>'
    for (number, parent, depth, node), text in zip(found, texts, strict=True):
        x, y = 20 + depth * STEP, 20 + number * LINE
        if parent is not None:
            above = 20 + parent * LINE + 8
            yield f'<path d="M{x - STEP + 4} {above}V{y}H{x - 4}" fill="none" stroke="#9e9e9e"/>'
        color = _COLORS.get(node.state, _DEAD)
        mark = "rect" if node.restarts is not None else "circle"
        at = f'x="{x}" y="{y - 4}" width="8" height="8"' if mark == "rect" else f'cx="{x + 4}" cy="{y}" r="4"'
        yield f"<{mark} {at} fill={quoteattr(color)}/>"
        yield f'<text x="{x + 16}" y="{y + 4}">{escape(text)}</text>'
    yield "</svg>"


FORMATS: dict[str, Callable[[TreeNode], Iterator[str]]] = {"dot": dot, "mermaid": mermaid, "svg": svg}


def sequence(events: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """A message trace, as the protocol sends it, as a Mermaid sequence diagram."""
    found = list(events)
    names = dict.fromkeys(name for one in found for name in (one["source"], one["target"]))
    known = {name: f"p{number}" for number, name in enumerate(names)}
    yield "sequenceDiagram"
    for name, short in known.items():
        yield f"  participant {short} as {_entities(printable('outside' if name == '?' else name))}"
    for one in found:
        source, target = known[one["source"]], known[one["target"]]
        plain = one["kind"] in ("reply", "event")
        text = _entities(printable(one["text"] if plain else f"{one['kind']} {one['text']}"))
        if one["kind"] == "event":
            yield f"  Note over {source}: {text}"
        else:
            yield f"  {source}{'-->>' if one['kind'] == 'reply' else '->>'}{target}: {text}"


def lines(events: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """A message trace as text, a line for each message."""
    for one in events:
        if one["kind"] == "event":
            yield printable(f"{one['at']:9.4f}  {one['source']}  {one['text']}")
        else:
            arrow = "<--" if one["kind"] == "reply" else "-->"
            ends = (one["target"], one["source"]) if one["kind"] == "reply" else (one["source"], one["target"])
            yield printable(f"{one['at']:9.4f}  {ends[0]} {arrow} {ends[1]}  {one['kind']} {one['text']}")
