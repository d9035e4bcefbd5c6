"""`banyan tree`: the supervision tree of a running node, as text, JSON, or in the form of another tool."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from runtime.observe import export, text
from runtime.observe.processes import tree_from_json
from runtime.observe.protocol import Tree

from .show import add_output, present


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("of", nargs="?", metavar="PROCESS", help="only the part below this pid or name")
    forms = parser.add_mutually_exclusive_group()
    for form, what in (("dot", "for Graphviz"), ("mermaid", "as a Mermaid flowchart"), ("svg", "as a picture")):
        forms.add_argument(f"--{form}", action="store_const", const=form, dest="form", help=what)
    add_output(parser, watch=True)


def run(args: argparse.Namespace) -> int:
    """Print the tree."""

    def exported(said: Any) -> Iterator[str]:
        return export.FORMATS[args.form](tree_from_json(said))

    return present(args, Tree(of=args.of), exported if args.form else text.tree)
