"""`banyan config`: what a running node was started with; what looks like a secret is not shown."""

from __future__ import annotations

import argparse

from runtime.observe import text
from runtime.observe.protocol import Config

from .show import add_output, present


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Print the configuration."""
    return present(args, Config(), text.info)
