"""Settings that all tests share: how hypothesis draws its examples."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# No deadline and no complaint about slow data: the first example of a test may compile a kernel, on a shared machine.
PATIENT = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}

settings.register_profile("dev", **PATIENT)
# In CI every run draws the same examples: what fails there fails for everyone, and only a commit can change it.
settings.register_profile("ci", derandomize=True, print_blob=True, **PATIENT)
settings.load_profile("ci" if os.environ.get("CI") else "dev")
