"""What the product's code may not do, and the few files that may.

A node touches the outside only through its World, so that a whole node can be run again from a seed; bytes
from outside never name code; failure travels by exit signals. Each ban here guards one of these. To let one
line off, write `# allowed: why` on it; to let a file off, name it here with its reason.
"""

from __future__ import annotations

import pytest

from tests.support import sets
from tests.support.bans import Ban, catch_all, definitions, keywords, ordered_by_id, seedless_random
from tests.support.source import Source, has_reason, sources

WORLD = {"supervisors/node/boot.py": "the real World is built here"}
HEART = {"supervisors/node/heart.py": "the real World's heart: its beats leave while the loop is held"}
_OUTSIDE = "a command is a program of its own, outside every node"
COMMANDS = {
    "supervisors/cli/*": _OUTSIDE,
    "game/demo*.py": _OUTSIDE,
    "game/nodes.py": _OUTSIDE,
    "game/play.py": _OUTSIDE,
    "game/play_*.py": _OUTSIDE,
    "game/replay_command.py": _OUTSIDE,
}

BANS = [
    Ban(
        "a clock of its own",
        instead="ask the World: now() or wall()",
        names=(
            *("time.time*", "time.monotonic*", "time.perf_counter*", "time.process_time*", "time.sleep"),
            *("time.localtime", "time.gmtime", "time.ctime", "time.strftime"),
            *("datetime.datetime.now", "datetime.datetime.utcnow", "datetime.datetime.today"),
            "datetime.date.today",
        ),
        allowed={**WORLD, **COMMANDS},
    ),
    Ban(
        "dice of its own",
        instead="take the World's random, or a random.Random that was handed in",
        names=("random.[a-z]*", "random.SystemRandom", "uuid.uuid[1-8]", "os.urandom", "secrets.*"),
        shapes=(seedless_random,),
        allowed=WORLD,
    ),
    Ban(
        "a thread of its own",
        instead="use World.run_blocking",
        names=(
            *("trio.to_thread.*", "trio.from_thread.*", "threading.Thread", "threading.Timer"),
            *("concurrent.futures.*", "multiprocessing.*", "_thread.*"),
        ),
        allowed={**WORLD, **HEART, **COMMANDS},
    ),
    Ban(
        "a connection of its own",
        instead="use World.transport",
        names=(
            *("trio.open_tcp_*", "trio.serve_tcp", "trio.open_ssl_over_tcp_*", "trio.serve_ssl_over_tcp"),
            *("trio.open_unix_socket", "trio.socket.socket", "trio.socket.from*"),
            *("socket.socket", "socket.create_*", "socket.socketpair"),
        ),
        allowed={**WORLD, **HEART, **COMMANDS},
    ),
    Ban(
        "an end of the program or a signal of its own",
        instead="use World.exit; an embedded runtime touches no signal",
        names=(
            *("os._exit", "os.abort", "os.kill", "os.killpg", "sys.exit", "signal.signal"),
            *("signal.set_wakeup_fd", "trio.open_signal_receiver", "subprocess.*", "trio.run_process"),
        ),
        allowed=COMMANDS,
        rooms=("runtime", "game"),
    ),
    Ban(
        "the order of a set",
        instead="sort it, or keep a dict: sets have another order in each interpreter",
        shapes=(lambda source: sets.ordered_by_a_set(source.tree),),
    ),
    Ban("order by id()", instead="order by something that two runs share", shapes=(ordered_by_id,)),
    Ban(
        "an effect in __del__",
        instead="release in terminate or a context manager: collection has no fixed time",
        shapes=(definitions("__del__"),),
    ),
    Ban(
        "Trio's private parts",
        instead="use trio.lowlevel",
        names=("trio._*",),
        imports=("trio._*",),
        allowed={"runtime/testing/scheduler.py": "the two switches of a seeded run"},
    ),
    Ban(
        "a decoder that can run code",
        instead="use runtime.codec, which decodes registered records only",
        imports=("pickle*", "_pickle*", "marshal*", "shelve*", "dill*", "cloudpickle*", "jsonpickle*"),
    ),
    Ban(
        "evaluating text",
        instead="match on records",
        names=("eval", "exec", "compile", "builtins.eval", "builtins.exec", "builtins.compile"),
        allowed={"runtime/observe/repl.py": "evaluating a line is what it is for, when the node allows it"},
    ),
    Ban(
        "an import by name",
        instead="import it, or look the record up by its registered name",
        names=("importlib.import_module", "importlib.__import__", "__import__", "pkgutil.resolve_name"),
        allowed={"supervisors/node/boot.py": "the operator names the application to load"},
    ),
    Ban(
        "lmdb outside its backend",
        instead="use the ports of runtime.durable and World.coordination",
        imports=("lmdb", "lmdb.*"),
        allowed={"runtime/backends/*": "one file per outside system"},
    ),
    Ban(
        "cbor2 outside the codec",
        instead="use runtime.codec: cbor2's own settings are not safe against hostile bytes",
        imports=("cbor2", "cbor2.*"),
        allowed={"runtime/codec/*": "the one place that knows the safe settings"},
    ),
    Ban(
        "a store that can lose what it acknowledged",
        instead="sync=False damages on power loss, writemap turns a full disk into SIGBUS",
        shapes=(keywords(sync=False, writemap=True),),
    ),
    Ban(
        "setting up logging",
        instead="leave it to the host; only the commands configure logs",
        names=("logging.basicConfig", "logging.config.*", "structlog.configure*"),
        allowed=COMMANDS,
    ),
    Ban(
        "a catch-all",
        instead="catch what you can answer for, or say on the line why all of it",
        shapes=(catch_all,),
    ),
    Ban(
        "a process under no supervisor",
        instead="declare it as a child",
        names=("runtime.spawn", "runtime.kernel.*.spawn"),
        rooms=("game", "examples"),
    ),
]


@pytest.mark.parametrize("ban", BANS, ids=lambda ban: ban.what)
def test_product_code_keeps_every_ban(ban: Ban) -> None:
    """No line of the product does what the house forbids, unless it says why it may."""
    broken = [line for source in sources(*ban.rooms) for line in ban.violations(source)]
    assert broken == []


@pytest.mark.parametrize("ban", BANS, ids=lambda ban: ban.what)
def test_exempt_files_have_a_reason(ban: Ban) -> None:
    """A file that may break a ban has its reason beside its name."""
    assert [path for path, why in ban.allowed.items() if not has_reason(why)] == []


# For each ban one piece of code that must be caught, so that a ban cannot lose its teeth unnoticed.
CAUGHT = {
    "a clock of its own": "from time import monotonic as now\nx = now()",
    "dice of its own": "import random\nx = random.choice([1])",
    "a thread of its own": "import trio\nf = trio.to_thread.run_sync",
    "a connection of its own": "import trio\ns = trio.open_tcp_stream",
    "an end of the program or a signal of its own": "import os\nos._exit(1)",
    "the order of a set": "x: set[str] = set()\nfor y in x: pass",
    "order by id()": "x = sorted([], key=id)",
    "an effect in __del__": "class A:\n    def __del__(self): pass",
    "Trio's private parts": "import trio\ntrio._core._run._r.random()",
    "a decoder that can run code": "from pickle import loads",
    "evaluating text": "eval('1')",
    "an import by name": "import importlib\nimportlib.import_module('a')",
    "lmdb outside its backend": "import lmdb",
    "cbor2 outside the codec": "from cbor2 import loads",
    "a store that can lose what it acknowledged": "open_store(sync=False)",
    "setting up logging": "import structlog\nstructlog.configure()",
    "a catch-all": "try:\n    pass\nexcept Exception:\n    pass",
    "a process under no supervisor": "from runtime import spawn\nspawn(1)",
}


@pytest.mark.parametrize("ban", BANS, ids=lambda ban: ban.what)
def test_each_ban_catches_its_case(ban: Ban) -> None:
    """Every ban is shown one line that breaks it, and catches it."""
    source = Source("somewhere/else.py", CAUGHT[ban.what])
    assert [line.split(": ")[1].startswith(ban.what) for line in ban.violations(source)] == [True]
