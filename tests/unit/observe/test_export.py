"""A tree in the forms of other tools."""

from __future__ import annotations

from xml.etree import ElementTree

from runtime.observe import export
from runtime.observe.queries import Gauge, TreeNode

TREE = TreeNode(
    "<1.1>",
    "root",
    "supervisor",
    "running",
    "one_for_one",
    Gauge(0, 1, 5.0),
    (
        TreeNode("<1.2>", 'a "b" <c>', "worker", "running"),
        TreeNode(None, "d\\e\x1b", "worker", "restarting"),
    ),
)


def test_a_tree_for_graphviz():
    """Nodes have numbers, labels are quoted, edges go from parent to child."""
    assert list(export.dot(TREE)) == [
        "digraph supervision {",
        '  node [shape=box, fontname="sans-serif"];',
        '  n0 [label="root <1.1> running"];',
        '  n1 [label="a \\"b\\" <c> <1.2> running", style="rounded"];',
        "  n0 -> n1;",
        '  n2 [label="d\\\\e\\\\x1b - restarting", style="rounded"];',
        "  n0 -> n2;",
        "}",
    ]


def test_a_tree_for_mermaid():
    """What has a meaning to Mermaid is written as an entity."""
    assert list(export.mermaid(TREE)) == [
        "flowchart TD",
        '  n0["root #60;1.1#62; running"]',
        '  n1("a #34;b#34; #60;c#62; #60;1.2#62; running")',
        "  n0 --> n1",
        '  n2("d\\e\\x1b - restarting")',
        "  n0 --> n2",
    ]


def test_a_tree_as_a_picture():
    """The picture is well-formed XML with a line of text for each process, coloured by its state."""
    picture = ElementTree.fromstring("\n".join(export.svg(TREE)))  # our own text
    texts = [one.text for one in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert texts == [
        "root  <1.1>  running  one_for_one restarts 0/1 in 5 s",
        'a "b" <c>  <1.2>  running',
        "d\\e\\x1b  -  restarting",
    ]
    colors = [one.get("fill") for one in picture.iter("{http://www.w3.org/2000/svg}circle")]
    assert colors == ["#2e7d32", "#b71c1c"]


def test_every_form_takes_a_deep_tree():
    """A tree deeper than Python's recursion is no matter."""
    tree = TreeNode("<1.1>", "leaf", "worker", "running")
    for _ in range(3000):
        tree = TreeNode("<1.1>", "s", "supervisor", "running", "one_for_one", Gauge(0, 1, 5.0), (tree,))
    for form in export.FORMATS.values():
        assert "leaf" in "\n".join(form(tree))
