"""Answers of the admin protocol as lines for a person: one form for commands, the REPL and all other skins.

Each function takes what came over the wire, so it works as well for an answer that was read from a file. What
comes from outside (names, states, messages) is printed with its control characters spelled out. Pure: times of
day are given by whoever knows the clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from .processes import age, printable, size, table_lines, tree_from_json
from .shown import Change

Said = Mapping[str, Any]
Lines = Iterable[str]
# Seconds since 1970 as a time of day.
Clock = Callable[[float], str]


def columns(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]], right: tuple[str, ...] = ()) -> Iterator[str]:
    """A table: texts stand left, the columns named in `right` stand right."""
    cells = [heads, *(tuple(printable(cell) for cell in row) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(heads))]
    for line in cells:
        padded = (
            cell.rjust(width) if head in right else cell.ljust(width)
            for cell, width, head in zip(line, widths, heads, strict=True)
        )
        yield "  ".join(padded).rstrip()


def pairs(found: Mapping[str, object]) -> Iterator[str]:
    """Names and values, one each line."""
    width = max((len(name) for name in found), default=0)
    for name, value in found.items():
        yield printable(f"{name.ljust(width)}  {value}")


def tree(said: Said) -> Iterator[str]:
    """The supervision tree."""
    for line in tree_from_json(dict(said)).lines():
        yield printable(line)


def ps(said: Said) -> Iterator[str]:
    """The list of processes."""
    yield from table_lines(list(said["processes"]), said["total"])


def info(said: Said) -> Iterator[str]:
    """The node, or one process."""
    if "start" not in said:
        yield from pairs({key: _plain(value) for key, value in said.items()})
        return
    bound = {"linked": said["linked"], "monitoring": said["monitoring"], "watched by": said["watched_by"]}
    yield from pairs(
        {
            "pid": said["pid"],
            "name": said["name"] or "-",
            "runs": said["start"] + (f" ({said['summary']})" if said["summary"] else ""),
            "state": said["state"] + (", traps exits" if said["trap_exit"] else ""),
            "parent": said["parent"] or "-",
            "mailbox": _mailbox(said),
            "in hand": _in_hand(said),
            "put off": said["unanswered"],
            "turns": f"{said['turns']:,}" + (f", handled {said['handled']:,}" if said["handled"] is not None else ""),
            "memory": f"{size(said['memory'])}, by estimate",
            **({"journal": f"{said['key']}, position {said['sequence']:,}"} if said["key"] else {}),
            **({"watched": ", ".join(said["watched"])} if said["watched"] else {}),
            **{name: ", ".join(whom) or "-" for name, whom in bound.items()},
        }
    )
    yield "stack"
    yield from frames(said["stack"])


def _mailbox(said: Said) -> str:
    waiting = f"{said['mailbox']:,} of {said['limit']:,}"
    return waiting + (f", the oldest for {age(said['oldest'])}" if said["oldest"] is not None else "")


def _in_hand(said: Said) -> str:
    return (said["handling"] or "-") + (f", waiting on {said['waiting']}" if said["waiting"] else "")


def _plain(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "-"
    if isinstance(value, dict):
        return ", ".join(f"{key}={one}" for key, one in value.items()) or "-"
    return "-" if value is None or value == "" else f"{value:,.1f}" if isinstance(value, float) else str(value)


def state(said: Said) -> Iterator[str]:
    """The state of a process."""
    at = f"  position {said['sequence']:,}" if said["sequence"] is not None else ""
    busy = "  (in the middle of a callback)" if said["busy"] else ""
    yield printable(f"{said['name']}  {said['pid']}{at}{busy}")
    yield from _fields(said)


def _fields(said: Said) -> Iterator[str]:
    if said["fields"]:
        for line in pairs(said["fields"]):
            yield f"  {line}"
    else:
        yield printable(f"  {said['text']}")


def mailbox(said: Said) -> Iterator[str]:
    """The messages that wait for a process."""
    waiting = f"{said['total']:,} of {said['limit']:,} messages wait"
    oldest = f", the oldest for {age(said['oldest'])}" if said["oldest"] is not None else ""
    yield printable(f"{said['name']}  {said['pid']}  {waiting}{oldest}")
    if said["handling"] is not None:
        one = said["handling"]
        yield printable(f"in hand: {one['kind']} {one['text']}" + (f" from {one['sender']}" if one["sender"] else ""))
    if said["letters"]:
        rows = ((one["kind"], age(one["age"]), one["sender"] or "-", one["text"]) for one in said["letters"])
        yield from columns(("KIND", "AGE", "FROM", "MESSAGE"), rows, ("AGE",))
    if said["total"] > len(said["letters"]):
        yield f"... and {said['total'] - len(said['letters']):,} more"


def stack(said: Said) -> Iterator[str]:
    """Where a process is."""
    yield printable(f"{said['name']}  {said['pid']}")
    if not said["stack"]:
        yield "  it has not taken its first step"
    yield from frames(said["stack"])


def frames(found: Iterable[Said]) -> Iterator[str]:
    """Calls, outermost first."""
    for one in found:
        yield printable(f"  {one['file']}:{one['line']} in {one['function']}")
        if one["source"]:
            yield printable(f"    {one['source']}")


def stacks(said: Said) -> Iterator[str]:
    """Where each thread of a node's program is."""
    holder = said["holder"]
    yield printable(f"the loop is held by {holder}" if holder else "the loop runs no process now")
    for thread in said["threads"]:
        yield printable(f"thread {thread['name']}" + (" (the loop)" if thread["loop"] else ""))
        yield from frames(thread["stack"])


def timers(said: Said) -> Iterator[str]:
    """The timers that are set."""
    rows = ((f"{one['due']:.1f} s", one["kind"], one["destination"], one["text"]) for one in said["timers"])
    yield from columns(("DUE IN", "KIND", "FOR", "MESSAGE"), rows, ("DUE IN",))
    left = said["total"] - len(said["timers"])
    more = f"{left:,} more, and " if left else ""
    yield f"... and {more}{said['deadlines']:,} deadlines of calls and waits"


def log(said: Said, clock: Clock) -> Iterator[str]:
    """The last entries of a journal."""
    yield printable(f"{said['key']}  position {said['last']:,}")
    for one in said["entries"]:
        yield from _entry(one, clock)


def _entry(one: Said, clock: Clock) -> Iterator[str]:
    by = f"  by {one['sender']} #{one['number']}" if one["sender"] else ""
    yield printable(f"{one['sequence']:>8,}  {clock(one['wall'])}{by}")
    for event in one["events"]:
        yield printable(f"          {event}")
    if one["reply"] and one["reply"] != "None":
        yield printable(f"          -> {one['reply']}")


def at(said: Said, clock: Clock) -> Iterator[str]:
    """The state of a durable process at a position of its journal."""
    yield printable(f"{said['key']}  position {said['position']:,} of {said['last']:,}")
    if said["entry"] is not None:
        yield from _entry(said["entry"], clock)
    yield from _fields(said)
    changes = [str(Change(one["name"], one["before"], one["after"])) for one in said["changes"]]
    if said["entry"] is not None:
        yield printable(f"changed: {', '.join(changes) or 'nothing'}")


def crashes(said: Said, clock: Clock) -> Iterator[str]:
    """The last crash reports."""
    kept = f"the last {said['recording']} messages of each process are kept" if said["recording"] else ""
    yield f"{said['total']:,} crashes since the node is watched" + (f"; {kept}" if kept else "")
    for one in said["crashes"]:
        name = one["name"] or one["label"]
        where = f"  ({one['context']})" if one["context"] else ""
        yield printable(f"{clock(one['at'])}  {name}  {one['pid']}  {one['reason']}{where}")
        if one["last_message"]:
            yield printable(f"  last message: {one['last_message']}")
        if one["fields"] or one["state"]:
            yield "  state at the end"
            for line in _fields({"fields": one["fields"], "text": one["state"]}):
                yield f"  {line}"
        if one["recent"]:
            yield "  messages before"
            for line, changes in zip(one["recent"], one["changes"], strict=True):
                yield printable(f"    {line}")
                if changes:
                    changed = ", ".join(str(Change(each["name"], each["before"], each["after"])) for each in changes)
                    yield printable(f"      changed: {changed}")
        if one["trace"]:
            yield "  raised at"
            for line in frames(one["trace"]):
                yield f"  {line}"


def stalls(said: Said, clock: Clock) -> Iterator[str]:
    """The last times that a process held the loop."""
    if not said["stalls"]:
        yield "no process has held the loop for long"
    for one in said["stalls"]:
        doing = f" while it handled {one['message']}" if one["message"] else ""
        held = f"held the loop for {one['seconds']:.2f} s{doing}"
        yield printable(f"{clock(one['at'])}  {one['name'] or one['label']}  {one['pid']}  {held}")
        for line in one["stack"].splitlines()[-2:]:
            yield printable(f"  {line}")


def store(said: Said) -> Iterator[str]:
    """What the journal holds."""
    room = f" of {size(said['bytes_limit'])}" if said["bytes_limit"] else ""
    yield from pairs(
        {
            "path": said["path"],
            "opened": f"{said['epoch']} times",
            "keys": f"{said['keys']:,}",
            "entries": f"{said['entries']:,}, the last at {said['position']:,}",
            "snapshots": f"{said['snapshots']:,}",
            "commits": f"{said['commits']:,} since it is open",
            "size": size(said["bytes_used"]) + room,
            "takes entries": "no: there is no room" if said["full"] else "yes",
        }
    )
    if said["shown"]:
        yield from columns(("KEY", "POSITION"), ((k, f"{v:,}") for k, v in said["shown"].items()), ("POSITION",))
    if said["keys"] > len(said["shown"]):
        yield f"... of {said['keys']:,} keys"


def nodes(said: Said) -> Iterator[str]:
    """The nodes of a cluster."""
    yield f"cluster {said['cluster']}" if said["cluster"] is not None else "in no cluster"
    yield from columns(
        ("NODE", "STATE", "LEASE", "LINK", "SHARDS", "LIFE", "ADDRESS"),
        (
            (
                one["name"] + (" *" if one["name"] == said["node"] else ""),
                one["state"]
                + (", drains" if one.get("draining") else "")
                + (", adopted here" if one.get("adopted") else ""),
                one["lease"] or "-",
                "yes" if one["linked"] else "no",
                str(one["shards"]),
                str(one["creation"]),
                one["address"] or "-",
            )
            for one in said["nodes"]
        ),
        ("SHARDS", "LIFE"),
    )


def shards(said: Said) -> Iterator[str]:
    """The shards of a cluster."""
    if not said["total"]:
        yield "it shares no shards: all entities of its regions are its own"
        return
    yield f"{said['total']} shards in cluster {said['cluster']}, {said['owned']} have an owner"
    yield from columns(
        ("SHARD", "OWNER", "EPOCH", "ENTITIES", "WAITING", "HELD"),
        (
            (
                str(one["shard"]),
                (one["owner"] or "-") + (" *" if one["served"] else ""),
                str(one["epoch"]) if one["epoch"] is not None else "-",
                str(one["entities"]) if one["entities"] is not None else "-",
                str(one["waiting"]),
                str(one["held"]),
            )
            for one in said["shards"]
        ),
        ("SHARD", "EPOCH", "ENTITIES", "WAITING", "HELD"),
    )


def moves(said: Said, clock: Clock) -> Iterator[str]:
    """Moves of shards, and which nodes drain."""
    yield from _standings(said)
    if not said["moves"]:
        yield "no shard moves, and none has moved of late"
        return
    heads = ("ID", "SHARD", "FROM", "TO", "PHASE", "COPIED", "HELD", "FREEZE", "SINCE", "WHY")
    rows = (
        (
            one["id"],
            str(one["shard"]),
            one["source"],
            one["target"],
            one["phase"],
            size(one["bytes"]) + ("" if one["ended"] else f" of {size(one['total'])}"),
            str(one["held"]),
            "-" if one["freeze_ms"] is None else f"{one['freeze_ms']:.1f} ms",
            clock(one["started"]),
            printable(one["why"]) or "-",
        )
        for one in said["moves"]
    )
    yield from columns(heads, rows, ("SHARD", "COPIED", "HELD", "FREEZE"))


def moves_now(said: Said, clock: Clock) -> Iterator[str]:
    """As `moves`, for whoever watches: how many move and how many have, those that move first, then the newest.

    A line is short: what is needed least stands at its end, and the ids are left out.
    """
    yield from _standings(said)
    if not said["moves"]:
        yield "no shard moves, and none has moved of late"
        return
    going = sum(not one["ended"] for one in said["moves"])
    yield (
        f"{going} of the last {len(said['moves'])} moves under way" if going else "no shard moves now; the last moves:"
    )
    heads = ("SHARD", "FROM", "TO", "PHASE", "COPIED", "HELD", "FREEZE", "WHY", "SINCE")
    rows = (
        (
            str(one["shard"]),
            one["source"],
            one["target"],
            one["phase"],
            size(one["bytes"]) if one["ended"] or not one["total"] else f"{100 * one['bytes'] // one['total']} %",
            str(one["held"]),
            "-" if one["freeze_ms"] is None else f"{one['freeze_ms']:.1f} ms",
            printable(one["why"]) or "-",
            clock(one["started"]),
        )
        for one in sorted(said["moves"], key=lambda one: (bool(one["ended"]), -one["ended"], -one["started"]))
    )
    yield from columns(heads, rows, ("SHARD", "COPIED", "HELD", "FREEZE"))


def _standings(said: Said) -> Iterator[str]:
    """Which nodes drain, and what stands in the way; who has not answered."""
    for one in said["nodes"]:
        if one["draining"] or one["why"]:
            does = f"has {one['owned']} shards"
            if one["draining"]:
                does = f"drains, and {does} left" if one["owned"] else "is drained: it has no shards"
            yield printable(f"{one['node']} {does}" + (f" ({one['why']})" if one["why"] else ""))
    if said["silent"]:
        yield f"no word from {', '.join(said['silent'])}"


def moved(one: Said) -> Iterator[str]:
    """One move that is over."""
    frozen = "" if one["freeze_ms"] is None else f", frozen for {one['freeze_ms']:.1f} ms"
    took = f"{size(one['bytes'])} in {one['ended'] - one['started']:.1f} s"
    yield f"shard {one['shard']} went from {one['source']} to {one['target']}: {took}{frozen}"


def forecast(one: Said) -> Iterator[str]:
    """What a move would carry."""
    yield from pairs(
        {
            "shard": f"{one['shard']}, from {one['source']} to {one['target']}",
            "keys": f"{one['keys']:,}, about {size(one['bytes'])}",
            "entities": f"{one['entities']:,} run, and go on there",
            "frozen": f"for about {one['freeze_ms']:.1f} ms",
        }
    )


def plan(said: Said) -> Iterator[str]:
    """Which moves would even out the load."""
    if said["silent"]:
        yield f"no word from {', '.join(said['silent'])}"
    if not said["moves"]:
        yield "nothing would move: the load is even enough"
        return
    heads = ("SHARD", "FROM", "TO")
    yield from columns(heads, ((str(o["shard"]), o["source"], o["target"]) for o in said["moves"]), ("SHARD",))


def doctor(said: Said) -> Iterator[str]:
    """What seems wrong."""
    if not said["findings"]:
        yield f"nothing seems wrong with {said['processes']:,} processes"
    for one in said["findings"]:
        yield printable(f"{one['severity']:<4}  {one['who']} {one['what']}")
        yield printable(f"      why: {one['why']}")
        yield printable(f"      next: {one['next']}")


def poison(said: Said, clock: Clock) -> Iterator[str]:
    """The commands that were set aside."""
    if not said["total"]:
        yield "no command is set aside"
        return
    heads = ("AT", "STORE", "SINCE", "PROCESS", "COMMAND ID", "CRASHES", "NOW", "COMMAND")
    rows = (
        (
            str(one["position"]),
            one["store"],
            clock(one["wall"]),
            one["key"],
            f"{one['sender']} #{one['number']}",
            str(one["crashes"]),
            one["closed"] or "waits",
            one["command"],
        )
        for one in said["commands"]
    )
    yield from columns(heads, rows, ("AT", "CRASHES"))
    if said["total"] > len(said["commands"]):
        yield f"... and {said['total'] - len(said['commands']):,} more"


def poisoned(said: Said, clock: Clock) -> Iterator[str]:
    """One of them with its surroundings."""
    one = said["one"]
    yield from pairs(
        {
            "process": f"{one['key']}, {'alive' if said['alive'] else 'not alive'}",
            "command": f"{one['command']} by {one['sender']} #{one['number']}",
            "set aside": f"{clock(one['wall'])}, after {one['crashes']} crashes; {one['closed'] or 'it waits'}",
            "last crash": one["error"],
        }
    )
    yield "state that it met"
    yield from _fields(said)
    if said["entry"] is not None:
        yield "entry before it"
        yield from _entry(said["entry"], clock)
