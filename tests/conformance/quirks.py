"""`python -m tests.conformance.quirks FILE`: lines that show defects of OTP 25, which are not copied.

Each must differ from what the BEAM did, and first at the defect: S68, a child that returned `ignore` at its
restart and is kept as `undefined`, or M32, a timer that was lost and comes to the callback raw. One line of
output per id that agrees with the BEAM or differs elsewhere; the last line is `passed N failed M`; exit 0
only if M = 0.
"""

from __future__ import annotations

import sys

from .replay import replay_line, report

# Where each line first differs, and what the BEAM has there.
DEFECTS = {
    "A00009": ("trace.final_tree[1].children.dynamic[0][0]", 'wanted "?"'),
    "A00117": ("trace.final_tree.dynamic[0][0]", 'wanted "?"'),
    "A00542": ("trace.final_tree.dynamic[0][0]", 'wanted "?"'),
    "A00738": ("trace.final_tree[2].children[0].children.dynamic[0][0]", 'wanted "?"'),
    "A01204": ("trace.final_tree[2].children.dynamic[0][0]", 'wanted "?"'),
    "A01210": ("trace.steps[6].reply.active", "wanted 1, came 0"),
    "A01353": ("trace.final_tree", 'wanted {"dynamic": [["?", "down", "worker"]]}, came []'),
    "C00184": ("trace.steps[1].cbs[0:]", '"$raw_timer state_timeout"'),
    "C00246": ("trace.steps[3].cbs[0][2]", 'wanted "info", came "state_timeout"'),
    "C00408": ("trace.steps[7].cbs[0][2]", 'wanted "info", came "timeout_g2"'),
    "C00424": ("trace.steps[4].cbs[0][2]", 'wanted "info", came "timeout_g2"'),
    "C00473": ("trace.steps[3].cbs[0][2]", 'wanted "info", came "timeout_g1"'),
    "C00528": ("trace.steps[4].cbs[0][2]", 'wanted "info", came "timeout_g2"'),
    "C00564": ("trace.steps[5].cbs[0][2]", 'wanted "info", came "timeout_g1"'),
    "C00591": ("trace.steps[5].cbs[0][2]", 'wanted "info", came "timeout_g1"'),
    "C00602": ("trace.steps[8].cbs[0:]", '"$raw_timer {timeout,<<\\"g1\\">>}"'),
}


def misplaced(identity: str, difference: str | None) -> str | None:
    """What is wrong about a line's first difference; None if it is the known defect."""
    if difference is None:
        return "agrees with the defect"
    where, what = DEFECTS.get(identity, ("", ""))
    found, _, said = difference.partition(": ")
    if not where:
        return f"is not a known defect; {difference}"
    if found != where or what not in said:
        return f"wanted the first difference at {where} ({what}), came {difference}"
    return None


def main(arguments: list[str] | None = None) -> int:
    """Replay the files; the exit code is 0 only if every line differs at its defect."""
    return report(lambda line: misplaced(str(line["id"]), replay_line(line)), "quirks", __doc__, arguments)


if __name__ == "__main__":
    sys.exit(main())
