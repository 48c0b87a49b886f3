"""The Python interface is documented where it is: every public name has a docstring, its examples run, and a page of
all of it can be made from them (`pdoc conntrack`)."""

from __future__ import annotations

import doctest
import inspect
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import conntrack

CALLABLES = [name for name in conntrack.__all__ if callable(getattr(conntrack, name))]
WITH_EXAMPLES = ("analyze", "read_segments", "to_arrow", "track", "Tracker")


@pytest.mark.parametrize("name", CALLABLES)
def test_every_public_name_says_what_it_is(name: str) -> None:
    thing = getattr(conntrack, name)
    assert inspect.getdoc(thing), name
    if inspect.isclass(thing):
        members = [member for member in vars(thing).values() if inspect.isfunction(member)]
        for member in members:
            if not member.__name__.startswith("_"):
                assert inspect.getdoc(member), f"{name}.{member.__name__}"


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_the_example_runs(name: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    thing = getattr(conntrack, name)
    found = doctest.DocTestFinder(recurse=False).find(thing, name, module=import_module(thing.__module__))
    examples = [example for test in found for example in test.examples]
    assert examples, f"{name} has no example"
    results = [doctest.DocTestRunner().run(test) for test in found]
    assert not any(result.failed for result in results)


def test_a_page_is_made_from_the_docstrings(root: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pdoc", "conntrack", "--no-search", "-o", str(tmp_path)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "conntrack.html").read_text()
    for name in conntrack.__all__:
        assert f'id="{name}"' in page, name
