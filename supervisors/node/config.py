"""How a node is configured: a flag, else a BANYAN_* variable, else banyan.toml, else the default.

    [node]
    name = "room-1"
    data = "./room"                    # from the file's own folder
    application = "room.app:application"
    drain_timeout = 30

    [application]                      # the application's own settings
    tables = 4

    [cluster]                          # other nodes; without any of these the node is on its own
    address = "10.0.0.1:4370"          # where they reach it
    certs = "./certs"
    coordination = "./coordination"
    peers = { room-2 = "10.0.0.2:4370" }

The variables are BANYAN_NAME, BANYAN_DATA and so on; BANYAN_SET_TABLES is the application's `tables`, and
BANYAN_CONFIG names another file. An unknown key is an error, with what was probably meant. Variables that
begin with BANYAN_TEST_ belong to tests and are passed over; an empty variable is none.

Source: Cargo's and uv's order of precedence; msgspec for the checks.
"""

from __future__ import annotations

import difflib
import math
import tomllib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Literal, final, get_args, get_origin, get_type_hints

import msgspec

from runtime.errors import Misuse

FILE = "banyan.toml"
PREFIX = "BANYAN_"
SETTING = "BANYAN_SET_"
PASSED_OVER = "BANYAN_TEST_"


@final
class BadConfig(Misuse):
    """A configuration that cannot work: `what`, `why`, what to do `next`; exit code 2."""

    code = 2

    def __init__(self, what: str, why: str, next: str) -> None:
        super().__init__(f"{what}: {why}; {next}")
        self.what = what
        self.why = why
        self.next = next


@final
class NodeConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a node is started with.

    Attributes:
        name: what it is called: letters, digits, '-', '_' and '.'.
        data: the directory of its store; ":memory:" for none that lasts; None for none at all.
        application: `module:attribute`.
        allow_eval: whether typed lines may run in it (`banyan remsh`).
        admin_level: the most that its admin socket does, without typed lines.
        drain_timeout: seconds for an ordered stop, from 0 up.
        listen: the address that its application is to listen at, handed on as the setting `listen`.
        log_level: of its log on stderr.
        check_messages: whether messages that were changed after they were sent are looked for; see `Node`.
        preempt: seconds, above 0, that one message, or a typed line, may hold the loop before it is broken; "off".
        gc: "freeze" puts what the start has made out of the garbage collector's sight, "python" does not; see
            `supervisors.node.collector`.
        metrics: the address at which its figures are served to Prometheus; None for nowhere.
        metrics_remote: whether that may be beyond this machine.
        address, advertise, certs, clear, coordination, shards, peers, cluster_id, rebalance, grace: of its cluster;
            see `supervisors.node.cluster.Cluster`, whose `listen` and `id` are `address` and `cluster_id` here.
        settings: the application's own.
    """

    name: str = "node"
    data: str | None = None
    application: str | None = None
    allow_eval: bool = False
    admin_level: Literal["view", "trace", "act"] = "act"
    drain_timeout: float = 30.0
    listen: str | None = None
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    check_messages: bool = False
    preempt: float | Literal["off"] = 1.0
    gc: Literal["freeze", "python"] = "freeze"
    metrics: str | None = None
    metrics_remote: bool = False
    address: str | None = None
    advertise: str | None = None
    certs: str | None = None
    clear: bool = False
    coordination: str | None = None
    shards: int | None = None
    peers: dict[str, str] = {}
    cluster_id: str | None = None
    rebalance: bool = True
    grace: float = 300.0
    settings: dict[str, str] = {}

    @property
    def clustered(self) -> bool:
        """Whether it is to be with other nodes at all."""
        return any(getattr(self, key) not in (None, False, {}) for key in CLUSTER_KEYS if key not in _MANNERS)


KEYS = tuple(field.name for field in msgspec.structs.fields(NodeConfig) if field.name != "settings")
# What a node does in a cluster, if it is in one.
_MANNERS = ("rebalance", "grace")
CLUSTER_KEYS = (
    *("address", "advertise", "certs", "clear", "coordination", "shards", "peers", "cluster_id"),
    *_MANNERS,
)
# The tables of banyan.toml, each with its keys and what they are called here.
TABLES = {
    "node": {key: key for key in KEYS if key not in CLUSTER_KEYS},
    "cluster": {key.removeprefix("cluster_"): key for key in CLUSTER_KEYS},
}
# Keys whose value is one of a few words.
CHOICES = {key: get_args(kind) for key, kind in get_type_hints(NodeConfig).items() if get_origin(kind) is Literal}
# Of a file they are looked for from its own folder.
PATHS = ("data", "certs", "coordination")


def configure(
    flags: Mapping[str, object], environ: Mapping[str, str], file: tuple[Path, str] | None = None
) -> NodeConfig:
    """Put the sources together; pure.

    Args:
        flags: by key; None is not given. `settings` is a list of `key=value`.
        environ: the environment; only BANYAN_* counts.
        file: a banyan.toml, as its path and text.

    Raises BadConfig, naming the source in which something is wrong.
    """
    from_file, file_settings = _of_file(*file) if file is not None else ({}, {})
    from_environ, environ_settings = _of_environ(environ)
    given = {key: value for key, value in flags.items() if key in KEYS and value is not None}
    pairs = given.get("peers")
    if isinstance(pairs, list):
        given["peers"] = _peers(pairs)
    merged: dict[str, object] = {}
    for values, source in ((from_file, str(file[0]) if file else ""), (from_environ, "the environment")):
        merged |= _checked(values, source)
    merged |= _checked(given, "the command line")
    settings = {**file_settings, **environ_settings, **_of_flags(flags.get("settings"))}
    if merged.get("listen") is not None:
        settings.setdefault("listen", str(merged["listen"]))
    whole = msgspec.convert({**merged, "settings": settings}, NodeConfig, strict=False)
    if whole.allow_eval and whole.admin_level != "act":
        why = "whoever may run lines may do everything, and admin_level allows less"
        raise BadConfig(f"allow_eval and admin_level {whole.admin_level!r} do not agree", why, "leave one of them out")
    return whole


def which_node(
    flags: Mapping[str, object], environ: Mapping[str, str], file: tuple[Path, str] | None = None
) -> tuple[str | None, str | None]:
    """Which node a command means, as (name, None) or (None, data directory); (None, None): nobody said.

    Arguments and errors as for `configure`. The first source that names a node decides.
    """
    configure(flags, environ, file)
    for values in (flags, _of_environ(environ)[0], _of_file(*file)[0] if file is not None else {}):
        for name, data in ((values.get("name"), None), (None, values.get("data"))):
            if isinstance(name, str) or isinstance(data, str):
                return name if isinstance(name, str) else None, data if isinstance(data, str) else None
    return None, None


def _of_flags(pairs: object) -> dict[str, str]:
    settings = {}
    for pair in pairs if isinstance(pairs, list) else []:
        key, equals, value = str(pair).partition("=")
        if not equals or not key:
            raise BadConfig("a setting cannot be read", f"wanted key=value, got {pair!r}", "write --set key=value")
        settings[key] = value
    return settings


def _peers(pairs: Iterable[object]) -> dict[str, str]:
    found = {}
    for pair in pairs:
        name, equals, address = str(pair).strip().partition("=")
        if not equals or not name or not address:
            why = f"wanted NAME=ADDRESS, got {pair!r}"
            raise BadConfig("a peer cannot be read", why, "write --peer room-2=10.0.0.2:4370")
        found[name] = address
    return found


def _of_environ(environ: Mapping[str, str]) -> tuple[dict[str, object], dict[str, str]]:
    values: dict[str, object] = {}
    settings: dict[str, str] = {}
    for variable, value in sorted(environ.items()):
        if not value or not variable.startswith(PREFIX) or variable.startswith(PASSED_OVER):
            continue
        if variable.startswith(SETTING):
            settings[variable.removeprefix(SETTING).lower()] = value
            continue
        key = variable.removeprefix(PREFIX).lower()
        if key == "config":
            continue
        if key not in KEYS:
            known = [PREFIX + name.upper() for name in (*KEYS, "config")]
            raise BadConfig(f"the variable {variable} means nothing here", *_meant(variable, known))
        values[key] = _peers(value.split(",")) if key == "peers" else value
    return values, settings


def _of_file(path: Path, text: str) -> tuple[dict[str, object], dict[str, str]]:
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadConfig(f"cannot read {path}", str(error), "mend that line: it is TOML") from None
    for name, table in tables.items():
        if name not in (*TABLES, "application"):
            raise BadConfig(f"{path}: {name!r} means nothing here", *_meant(name, (*TABLES, "application")))
        if not isinstance(table, dict):
            raise BadConfig(f"{path}: {name!r} is no table", f"it is {table!r}", f"begin it with [{name}]")
    values: dict[str, object] = {}
    for name, keys in TABLES.items():
        for key, value in tables.get(name, {}).items():
            if key not in keys:
                raise BadConfig(f"{path}: there is no {name}.{key}", *_meant(key, keys))
            from_here = keys[key] in PATHS and isinstance(value, str) and value != ":memory:"
            values[keys[key]] = str(path.parent / value) if from_here else value
    settings = {key: _as_text(path, key, value) for key, value in tables.get("application", {}).items()}
    return values, settings


def _as_text(path: Path, key: str, value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str() | int() | float():
            return str(value)
    raise BadConfig(
        f"{path}: application.{key} cannot be a setting",
        f"it is {value!r}",
        "a setting is text, a number or a bool",
    )


def _checked(values: Mapping[str, object], source: str) -> dict[str, object]:
    """The values of one source, each of its type and within its bounds."""
    for key, value in values.items():
        try:
            one = msgspec.convert({key: value}, NodeConfig, strict=False)
        except msgspec.ValidationError as error:
            words = CHOICES.get(key)
            why = f"it is one of {', '.join(words)}" if words else str(error).partition(" - at ")[0]
            raise BadConfig(f"{source}: {key} cannot be {value!r}", why, "give it another value") from None
        _check_bounds(one, source)
    return dict(values)


def _check_bounds(config: NodeConfig, source: str) -> None:
    if not config.name.replace("-", "").replace("_", "").replace(".", "").isalnum():
        why = "a node's name is letters, digits, '-', '_' and '.'"
        raise BadConfig(f"{source}: the name cannot be {config.name!r}", why, "give it another name")
    if not 0 <= config.drain_timeout < math.inf:
        why = "it is a finite number of seconds, from 0 up"
        raise BadConfig(f"{source}: drain_timeout cannot be {config.drain_timeout!r}", why, "30 is the default")
    if not 0 <= config.grace < math.inf:
        why = "it is a finite number of seconds, from 0 up"
        raise BadConfig(f"{source}: grace cannot be {config.grace!r}", why, "300 is the default")
    if config.preempt != "off" and not 0 < config.preempt < math.inf:
        why = "it is a finite number of seconds, above 0"
        raise BadConfig(f"{source}: preempt cannot be {config.preempt!r}", why, "'off' is never; 1 is the default")


def _meant(key: str, known: Collection[str]) -> tuple[str, str]:
    """Why a name is none of those that are known there, and what to do; it may be a key of one of the tables."""
    table = next((name for name, keys in TABLES.items() if key in keys), None)
    if table is not None:
        return f"it is a key of [{table}]", f"put it below [{table}]"
    close = difflib.get_close_matches(key, known, n=1)
    return f"there are: {', '.join(known)}", f"did you mean {close[0]!r}?" if close else "leave it out"


def read_file(named: str | None) -> tuple[Path, str] | None:
    """The configuration file as path and text: the named one, else banyan.toml if the folder has one.

    Raises BadConfig if a named file is not there, or one cannot be read.
    """
    path = Path(named if named is not None else FILE)
    try:
        return path, path.read_text(encoding="utf-8")
    except FileNotFoundError:
        if named is None:
            return None
        raise BadConfig(f"cannot read {path}", "there is no such file", "name another with --config") from None
    except (OSError, UnicodeDecodeError) as error:
        raise BadConfig(f"cannot read {path}", str(error), "make it a readable file of UTF-8 text") from None
