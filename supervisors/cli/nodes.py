"""`banyan nodes`: the nodes of a cluster, as a running node sees them."""

from __future__ import annotations

import argparse

from runtime.observe import text
from runtime.observe.protocol import Nodes

from .show import add_output, present


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_output(parser, watch=True)


def run(args: argparse.Namespace) -> int:
    """Print the list."""
    return present(args, Nodes(), text.nodes)
