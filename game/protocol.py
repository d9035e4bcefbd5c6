"""What a player's client may send to the card room's gateway: one struct for each `op`. Pure.

docs/gateway.md is the same for people. Amounts are whole hundredths of a chip.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

from runtime.edge import frames
from runtime.edge.connection_values import Request
