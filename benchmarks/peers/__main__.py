"""`python -m benchmarks.peers NAME`: one peer's figures, as one JSON object."""

from __future__ import annotations

import json
import sys

from . import measure

print(json.dumps(measure(sys.argv[1])))
