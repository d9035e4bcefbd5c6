"""`banyan completion bash|zsh|fish`: what makes a shell complete commands, options, and living processes.

    banyan completion bash >> ~/.bashrc

The shell then asks `banyan completion words ...` at each Tab, which asks the node that is meant for its names
and pids. Pids are offered as 1.88, which needs no quotes. Without a node there is nothing to offer.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .failure import Exit, Failure
from .main import COMMANDS, Parser

if TYPE_CHECKING:
    from runtime.observe.protocol import Request

# Seconds for which a Tab may wait for the node.
PATIENCE = 1.0
LIMIT = 200

BASH = """\
_banyan() {
    local IFS=$'\\n'
    COMPREPLY=($(banyan completion words -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o default -F _banyan banyan
"""
ZSH = """\
#compdef banyan
_banyan() {
    local -a found
    found=("${(@f)$(banyan completion words -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    compadd -a found
}
compdef _banyan banyan
"""
FISH = """\
function __banyan
    set -l typed (commandline -opc) (commandline -ct)
    banyan completion words -- $typed[2..-1] 2>/dev/null
end
complete -c banyan -f -a '(__banyan)'
"""
SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("shell", choices=[*SCRIPTS, "words"], metavar="SHELL", help="bash, zsh or fish")
    parser.add_argument("typed", nargs="*", metavar="WORD", help=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> int:
    """Print a shell's script; or, for `words`, how the last of the words typed so far may go on."""
    if args.shell != "words":
        if args.typed:
            raise Failure("wrong usage", "a shell's name is all it takes", "banyan completion bash", Exit.USAGE)
        print(SCRIPTS[args.shell], end="")
        return Exit.OK
    for word in words(args.typed):
        print(word)
    return Exit.OK


def words(typed: list[str]) -> Iterator[str]:
    """How the last word may go on, given those before it."""
    *before, last = typed or [""]
    if not before:
        yield from (name for name in COMMANDS if name.startswith(last))
        return
    entry = COMMANDS.get(before[0])
    if entry is None or before[0] == "completion":
        yield from (shell for shell in SCRIPTS if shell.startswith(last))
        return
    parser = Parser(prog=f"banyan {before[0]}", add_help=False)
    # allowed: a name from the table of commands, never a caller's
    importlib.import_module(entry.module).configure(parser)  # allowed: a name from the table of commands
    if before[-1] in ("-n", "--name"):
        yield from _nodes(last)
    elif before[-1] == "--abort":
        yield from _moves(before, last)
    elif before[-1] == "--of":
        yield from _members(before, last)
    elif last.startswith("-"):
        yield from (option for option in parser._option_string_actions if option.startswith(last))
    elif any(action.metavar == "PROCESS" for action in parser._actions):
        yield from _processes(before, last)
    elif any(action.metavar == "NODE" and not action.option_strings for action in parser._actions):
        yield from _members(before, last)


def _nodes(prefix: str) -> Iterator[str]:
    from runtime.observe.client import nodes

    yield from (node.name for node in nodes() if node.name.startswith(prefix))


def _processes(before: list[str], prefix: str) -> Iterator[str]:
    """Names and pids of the node that is meant."""
    from runtime.observe.protocol import Names

    for name in (_asked(before, Names(prefix=prefix, limit=LIMIT)) or {"names": ()})["names"]:
        yield name.strip("<>") if not prefix.startswith("<") else name


def _members(before: list[str], prefix: str) -> Iterator[str]:
    """The nodes of the cluster, as the node that is meant sees it."""
    from runtime.observe.protocol import Nodes

    said = _asked(before, Nodes()) or {"nodes": ()}
    yield from (one["name"] for one in said["nodes"] if one["name"].startswith(prefix))


def _moves(before: list[str], prefix: str) -> Iterator[str]:
    """The moves that are under way."""
    from runtime.observe.protocol import Moves

    said = _asked(before, Moves()) or {"moves": ()}
    yield from (one["id"] for one in said["moves"] if not one["ended"] and one["id"].startswith(prefix))


def _asked(before: list[str], request: Request) -> Any:
    """What the node that is meant answers; None if there is none, or it does not."""
    from runtime.observe.protocol import Refusal

    from .target import add_target, ask

    parser = Parser(add_help=False)
    add_target(parser)
    args, _ = parser.parse_known_args([word for word in before[1:] if word != "--"])
    args.timeout = PATIENCE
    try:
        return ask(args, request)
    except Refusal:
        return None
