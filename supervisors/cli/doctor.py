"""`banyan doctor`: what seems wrong with a running node, the worst first, and what to look at next."""

from __future__ import annotations

import argparse

from runtime.observe import text
from runtime.observe.protocol import Doctor

from .show import add_output, present


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_output(parser, watch=True)


def run(args: argparse.Namespace) -> int:
    """Print the findings."""
    return present(args, Doctor(), text.doctor)
