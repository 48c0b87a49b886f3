"""What is handed out: the source distribution has every source and nothing made from them; how wheels are configured.

That a wheel builds from it in an isolated environment, and twice the same, `.ci/wheels` shows; it takes minutes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def files(root: Path, tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names in the source distribution of this tree as it is, with what was built in it."""
    folder = tmp_path_factory.mktemp("sources") / "tree"
    aside = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__")
    shutil.copytree(root, folder, ignore=aside)
    (folder / "conntrack" / "core" / "stale.c").write_text("#error\n")
    code = "from setuptools import build_meta; print(build_meta.build_sdist('dist'))"
    env = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (made,) = (folder / "dist").glob("*.tar.gz")
    with tarfile.open(made) as archive:
        return {name.partition("/")[2] for name in archive.getnames()}


def test_every_source_is_in_it(root: Path, files: set[str]) -> None:
    suffixes = (".py", ".pyx", ".pxd", ".pyi", ".js", ".css", ".html", ".json", ".md")
    sources = {
        str(path.relative_to(root))
        for path in (root / "conntrack").rglob("*")
        if path.suffix in suffixes and "__pycache__" not in path.parts
    }
    assert sources - files == set()
    assert {"pyproject.toml", "setup.py", "README.md", "LICENSE", "conntrack/py.typed"} <= files


def test_nothing_made_is_in_it(files: set[str]) -> None:
    assert [name for name in files if name.endswith((".c", ".so", ".pyc"))] == []


def test_licences_of_what_is_carried_are_declared(root: Path, files: set[str]) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    assert set(project["license-files"]) <= files
    carried = {str(path.relative_to(root)) for path in (root / "conntrack").rglob("*.min.js")}
    assert {str(Path(name).parent / "LICENSE") for name in carried} <= set(project["license-files"])


def test_upper_bounds_are_few(root: Path) -> None:
    """A dependency's next version is not refused before it is known to break something. Cython's next major is."""
    document = tomllib.loads((root / "pyproject.toml").read_text())
    project = document["project"]
    groups = [document["build-system"]["requires"], project["dependencies"], *project["optional-dependencies"].values()]
    bounded = {one.split(";")[0].strip() for group in groups for one in group if "<" in one.split(";")[0]}
    assert {one.split(">")[0] for one in bounded} <= {"Cython"}


def test_wheels_are_of_the_limited_api_for_both_architectures(root: Path) -> None:
    wheels = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["cibuildwheel"]
    assert wheels["environment"]["CONNTRACK_ABI3"] == "1"
    assert set(wheels["linux"]["archs"]) == {"x86_64", "aarch64"}
    assert wheels["build"].split()[0].startswith("cp311-")
