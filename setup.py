"""Extension modules and their build switches; all other metadata is in pyproject.toml.

CONNTRACK_DEBUG=1     bounds checks, no optimisation
CONNTRACK_SANITIZE=1  address and undefined-behaviour sanitizers (run with LD_PRELOAD of libasan)
CONNTRACK_COVERAGE=1  gcc counts how often each line runs (benches/covered.py)
CONNTRACK_ABI3=1      one extension for CPython 3.11 and all that follow (wheels)
"""

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

SHARED = "conntrack._cyutility"
"""What Cython adds to every module that takes memoryviews, three quarters of each: compiled once."""
DEBUG = os.environ.get("CONNTRACK_DEBUG") == "1"
SANITIZE = os.environ.get("CONNTRACK_SANITIZE") == "1"
COVERAGE = os.environ.get("CONNTRACK_COVERAGE") == "1"
ABI3 = os.environ.get("CONNTRACK_ABI3") == "1"

compile_args = ["-O0", "-g"] if DEBUG else ["-O3", "-g0"]
link_args = []
macros = []
if COVERAGE:
    compile_args += ["--coverage"]
    link_args += ["--coverage"]
if SANITIZE:
    sanitizers = ["-fsanitize=address,undefined", "-fno-omit-frame-pointer", "-fno-sanitize-recover=undefined"]
    compile_args += [*sanitizers, "-g"]
    link_args += sanitizers
if ABI3:
    macros += [("Py_LIMITED_API", "0x030B0000")]

sources = {".".join(path.with_suffix("").parts): [str(path)] for path in sorted(Path("conntrack").rglob("*.pyx"))}
extensions = [
    Extension(
        name,
        source,
        define_macros=macros,
        extra_compile_args=compile_args,
        extra_link_args=link_args,
        py_limited_api=ABI3,
    )
    for name, source in {SHARED: [], **sources}.items()
]

setup(
    ext_modules=cythonize(
        extensions,
        nthreads=os.cpu_count() or 1,
        build_dir="build/checked" if DEBUG or SANITIZE else None,
        shared_utility_qualified_name=SHARED,
        compiler_directives={
            "language_level": 3,
            "boundscheck": DEBUG,
            "wraparound": False,
            "initializedcheck": DEBUG,
            "cdivision": True,
            "embedsignature": True,
        },
    ),
    options={
        "build_ext": {"parallel": os.cpu_count()},
        **({"bdist_wheel": {"py_limited_api": "cp311"}} if ABI3 else {}),
    },
)
