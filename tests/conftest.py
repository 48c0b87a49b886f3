"""What every test stands on: a fixed terminal, a fixed time zone, and the folder of shared captures where there is one.

Tests pass on a bare clone. Those that need the shared captures ask for the fixture `shared`: without that folder they
are skipped, and under CI=true they fail, because there nothing may be left out. There is no other reason to skip.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("CONNTRACK_SHARED") or ROOT.parent / "shared")
pytest_plugins = ("whole_suite",)
NO_SHARED = "the shared captures are not here (CONNTRACK_SHARED, or ../shared next to the repository)"

# No test is timed: a busy machine is no fault. Under CI=true Hypothesis sees to that by itself.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
if os.environ.get("CI") != "true":
    settings.load_profile("untimed")

os.environ["COLUMNS"] = "80"
os.environ["TZ"] = "UTC"
time.tzset()


@pytest.fixture(scope="session")
def root() -> Path:
    """The root of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with the public captures and the tools."""
    if not SHARED.is_dir():
        if os.environ.get("CI") == "true":
            pytest.fail(NO_SHARED)
        pytest.skip(NO_SHARED)
    return SHARED
