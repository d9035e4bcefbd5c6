"""The command `banyan`: finds the command that is meant, imports it, and turns its end into an exit code.

A command is a module with two functions: `configure(parser)` declares its arguments, `run(args)` does the
work and returns the exit code, or raises. Modules are imported when their command is given, so that
`banyan --help` loads neither Trio nor anything else that takes its time.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn, Protocol, cast

from .failure import Exit, Failure, report


class Command(Protocol):
    """What the module of a command offers."""

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Declare the arguments."""

    def run(self, args: argparse.Namespace) -> int:
        """Do the work; returns the exit code."""


class Entry(NamedTuple):
    """Where a command is, and what it does in a few words."""

    module: str
    summary: str


COMMANDS = {
    "demo": Entry("game.demo", "watch tables play, die and heal, for a few seconds"),
    "play": Entry("game.play", "take a seat against bots, in this terminal"),
    "replay": Entry("game.replay_command", "play recorded hands and compare what comes out"),
    "start": Entry("supervisors.cli.start", "run an application until it is told to stop"),
    "up": Entry("supervisors.cli.up", "run an application on several nodes of this machine"),
    "top": Entry("supervisors.cli.top", "look into a running node on a screen that stays"),
    "tree": Entry("supervisors.cli.tree", "show the supervision tree of a running node"),
    "ps": Entry("supervisors.cli.ps", "list the processes of a running node"),
    "info": Entry("supervisors.cli.info", "tell about a running node, or one of its processes"),
    "state": Entry("supervisors.cli.state", "show the state of a process"),
    "mailbox": Entry("supervisors.cli.mailbox", "show the messages that wait for a process"),
    "stack": Entry("supervisors.cli.stack", "show where a process is, or what holds the node up"),
    "trace": Entry("supervisors.cli.trace", "watch what comes to and leaves some processes, for a while"),
    "timers": Entry("supervisors.cli.timers", "list the timers that are set"),
    "crashes": Entry("supervisors.cli.crashes", "show the last crashes, with state and last messages"),
    "doctor": Entry("supervisors.cli.doctor", "say what seems wrong with a running node"),
    "log": Entry("supervisors.cli.log", "show the last journal entries of a durable process"),
    "at": Entry("supervisors.cli.at", "show a durable process as it was at any position of its journal"),
    "store": Entry("supervisors.cli.store", "show what the journal of a running node holds"),
    "nodes": Entry("supervisors.cli.nodes", "list the nodes of a cluster, as a running node sees them"),
    "shards": Entry("supervisors.cli.shards", "list the shards of a cluster, and who owns them"),
    "move": Entry("supervisors.cli.move", "give a shard to another node while it is used"),
    "moves": Entry("supervisors.cli.moves", "list the moves of shards, and how far they are"),
    "drain": Entry("supervisors.cli.drain", "have a node give all its shards to others"),
    "adopt": Entry("supervisors.cli.adopt", "serve a dead node's shards out of its own data directory"),
    "rebalance": Entry("supervisors.cli.rebalance", "even out the load among the nodes now"),
    "poison": Entry("supervisors.cli.poison", "list, show, replay or drop commands that crash their process"),
    "config": Entry("supervisors.cli.config", "show what a running node was started with"),
    "kill": Entry("supervisors.cli.kill", "end a process of a running node"),
    "suspend": Entry("supervisors.cli.suspend", "hold a process of a running node"),
    "resume": Entry("supervisors.cli.resume", "let a suspended process go on"),
    "restart": Entry("supervisors.cli.restart", "end a process in order and have it started again"),
    "interrupt": Entry("supervisors.cli.interrupt", "break what holds the loop of a running node"),
    "eval": Entry("supervisors.cli.eval", "run one line inside a running node"),
    "check": Entry("supervisors.cli.check", "check a data directory that no node has open, to its last record"),
    "backup": Entry("supervisors.cli.backup", "copy a data directory, also while its node runs"),
    "restore": Entry("supervisors.cli.restore", "make a data directory from a backup"),
    "certs": Entry("supervisors.cli.certs", "make the keys with which nodes know one another"),
    "remsh": Entry("supervisors.cli.remsh", "type lines that run inside a running node"),
    "completion": Entry("supervisors.cli.completion", "print what makes a shell complete these commands"),
}

# The extra of the distribution that brings a module.
EXTRAS = {"pokerkit": "game", "websockets": "game", "prompt_toolkit": "repl", "rich": "repl", "cryptography": "tls"}


class Parser(argparse.ArgumentParser):
    """An argument parser that says in three parts what is wrong."""

    def error(self, message: str) -> NoReturn:
        report(f"wrong usage of `{self.prog}`", message, f"{self.prog} --help tells what it takes")
        sys.exit(Exit.USAGE)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code. Raises SystemExit as argparse does: for --help and usage."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given:
        _top_parser().print_help(sys.stderr)
        return Exit.USAGE
    if given[0].startswith("-"):
        if given[0] in ("-V", "--version"):
            print(f"banyan {version()}")
            return Exit.OK
        _top_parser().parse_args(given)
        return Exit.USAGE
    return _guarded(lambda: _run(given[0], given[1:]))


def _run(name: str, arguments: list[str]) -> int:
    if name not in COMMANDS:
        close = difflib.get_close_matches(name, COMMANDS, n=1)
        advice = f"did you mean `banyan {close[0]}`?" if close else "banyan --help tells what each does"
        raise Failure(f"there is no command {name!r}", f"there are: {', '.join(COMMANDS)}", advice, Exit.USAGE)
    command = _load(name)
    parser = Parser(prog=f"banyan {name}", description=_sentence(COMMANDS[name].summary))
    command.configure(parser)
    return command.run(parser.parse_args(arguments))


def _load(name: str) -> Command:
    module = COMMANDS[name].module
    try:
        # allowed: the names are the table's above, never a caller's
        return cast("Command", importlib.import_module(module))  # allowed: a name from the table above
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in EXTRAS:
            advice = f"pip install 'banyan-runtime[{EXTRAS[missing]}]'"
            raise Failure(f"`banyan {name}` cannot run", f"{missing} is not installed", advice, Exit.USAGE) from None
        if error.name is not None and (module + ".").startswith(error.name + "."):
            why = f"this installation has no module {error.name}"
            raise Failure(f"`banyan {name}` cannot run", why, "install all of Banyan", Exit.USAGE) from None
        raise


def _guarded(work: Callable[[], int]) -> int:
    """Run `work`; whatever it raises is told in three parts and becomes an exit code."""
    try:
        code = work()
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output has enough. What Python would flush at exit goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.FAILED
    except Failure as failure:
        found = failure
    except Exception as error:  # the edge to the shell: a person gets three parts, a script a code
        from .explain import explain

        found = explain(error)
    report(found.what, found.why, found.next)
    return found.code


def _top_parser() -> argparse.ArgumentParser:
    width = max(map(len, COMMANDS))
    listed = "\n".join(f"  {name:<{width}}  {entry.summary}" for name, entry in COMMANDS.items())
    parser = Parser(
        prog="banyan",
        usage="banyan COMMAND ...",
        description="Supervised, durable processes for Python: a runtime and its card room.",
        epilog=f"commands:\n{listed}\n\nbanyan COMMAND --help tells what a command takes.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-V", "--version", action="store_true", help="show the version and leave")
    return parser


def _sentence(summary: str) -> str:
    return summary[0].upper() + summary[1:] + "."


def version() -> str:
    """The version of this distribution; "0" where it is not installed."""
    from importlib import metadata

    try:
        return metadata.version("banyan-runtime")
    except metadata.PackageNotFoundError:
        return "0"


def is_tty(stream: Any) -> bool:
    """Whether a stream is a terminal; a closed one is none."""
    try:
        return bool(stream.isatty())
    except ValueError:
        return False


if __name__ == "__main__":
    sys.exit(main())
