"""What holds for every test: Hypothesis sets no deadline, because a slow machine is no defect."""

from __future__ import annotations

from hypothesis import settings

# On top of what Hypothesis itself chooses: under CI=true its own profile, which repeats the same examples.
settings.register_profile("banyan", settings(), deadline=None)
settings.load_profile("banyan")
