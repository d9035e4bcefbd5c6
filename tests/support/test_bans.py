"""How a file is judged by a ban."""

from __future__ import annotations

import pytest

from tests.support.bans import Ban, catch_all, keywords, ordered_by_id, seedless_random
from tests.support.source import Source


def lines(ban: Ban, text: str, path: str = "a/b.py") -> list[int]:
    return [int(line.split(":")[1]) for line in ban.violations(Source(path, text))]


CLOCK = Ban("clock", "ask", names=("time.time", "a.clock.now"), allowed={"w/*.py": "the seam is here"})


@pytest.mark.parametrize(
    "text",
    [
        "import time\ntime.time()",
        "import time as t\nt.time()",
        "from time import time\ntime()",
        "from time import time as now\nf = now",
        "from . import clock\nclock.now",
        "from .clock import now\nnow",
    ],
)
def test_a_banned_name_is_seen_through_every_import(text: str) -> None:
    """Aliases, from-imports, relative imports and mentions without a call are all the same name."""
    assert lines(CLOCK, text) == [2]


def test_another_thing_of_the_same_last_name_is_free() -> None:
    """A method called `time` is not `time.time`."""
    assert lines(CLOCK, "class C:\n    def time(self): return self.time.time") == []


def test_an_allowed_file_is_free() -> None:
    """A file that the ban names may break it."""
    assert lines(CLOCK, "import time\ntime.time()", "w/real.py") == []


def test_an_allowed_line_needs_a_reason() -> None:
    """`# allowed:` without words lets nothing off."""
    assert lines(CLOCK, "import time\ntime.time()  # allowed: the host's own clock is shown") == []
    assert lines(CLOCK, "import time\ntime.time()  # allowed:") == [2]


def test_a_catch_all_raises_again_or_says_why() -> None:
    """Cleaning up and raising again swallows nothing; a swallowing one says why."""
    ban = Ban("catch", "narrow", shapes=(catch_all,))
    assert lines(ban, "try: pass\nexcept BaseException:\n    undo()\n    raise") == []
    assert lines(ban, "try: pass\nexcept (ValueError, Exception):\n    pass") == [2]
    assert lines(ban, "try: pass\nexcept:\n    pass") == [2]
    assert lines(ban, "try: pass\nexcept Exception:  # foreign code raises all sorts\n    pass") == []
    assert lines(ban, "try: pass\nexcept ValueError:\n    pass") == []


def test_random_with_a_seed_is_free() -> None:
    """Only an unseeded generator asks the operating system."""
    ban = Ban("dice", "seed", shapes=(seedless_random,))
    assert lines(ban, "import random\nrandom.Random()\nrandom.Random(7)") == [2]


def test_keywords_are_compared_with_their_value() -> None:
    """`sync=True` is what we want; only `sync=False` is caught."""
    ban = Ban("sync", "sync", shapes=(keywords(sync=False),))
    assert lines(ban, "f(sync=True)\nf(sync=False)\nf(sync=0)") == [2]


def test_a_key_that_uses_id_is_caught_inside_a_lambda() -> None:
    """`key=lambda x: (x.n, id(x))` is as bad as `key=id`."""
    ban = Ban("id", "other", shapes=(ordered_by_id,))
    assert lines(ban, "sorted(a, key=lambda x: (x.n, id(x)))\nsorted(a, key=len)") == [1]
