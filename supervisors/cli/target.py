"""Which running node a command means: `-n NAME`, `--data DIR`, as configured, or the only one there is."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from runtime.observe.client import AdminClient, find_node
from runtime.observe.places import BACK
from runtime.observe.protocol import Request

from ..node.config import read_file, which_node


def add_target(parser: argparse.ArgumentParser) -> None:
    """Declare the options that name a node."""
    named = parser.add_mutually_exclusive_group()
    named.add_argument("-n", "--name", metavar="NAME", help="the node's name; by default the only one that runs")
    named.add_argument("--data", metavar="DIR", help="the node's data directory, instead of its name")
    parser.add_argument(
        "--timeout",
        type=float,
        default=5.0,
        metavar="SECONDS",
        help="how long an answer may take (default 5)",
    )


def connect(args: argparse.Namespace) -> AdminClient:
    """A connection to the node that is meant; raises Refusal: code 3 if the named one does not run, 4 if none
    was named and not exactly one runs."""
    return AdminClient(_socket(args), timeout=args.timeout)


def connect_back(args: argparse.Namespace) -> AdminClient:
    """A connection to its back door, which answers also while the node does not; raises as `connect`."""
    return AdminClient(_socket(args).with_suffix(BACK), timeout=args.timeout)


def _socket(args: argparse.Namespace) -> Path:
    flags = {"name": args.name, "data": args.data}
    name, data = which_node(flags, os.environ, read_file(os.environ.get("BANYAN_CONFIG") or None))
    return find_node(name, data).socket


def ask(args: argparse.Namespace, request: Request) -> Any:
    """The answer of the node that is meant to one request."""
    with connect(args) as client:
        return client.request(request)
