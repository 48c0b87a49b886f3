"""Kernels with bounds checks, under the address and undefined-behaviour sanitizers, with every line counted.

One run of benches/covered.py over quick tests gives both: nothing is beyond its bounds, and nearly every line of the
Cython was there to be looked at. With --whole it is every test but what benches/checked.py names with a reason
(LEFT_OUT). `python -m benches.valgrind` is a short run under valgrind.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benches.checked import LEFT_OUT
from benches.covered import kernel_lines, lines_of_c
from benches.valgrind import OURS, errors_of

C = """\
/* "conntrack/core/a.pyx":3 */
static int __pyx_f_one(int __pyx_v_x) {

  /* "conntrack/core/a.pyx":4
 *     if x:             # <<<<<<<<<<<<<<
*/
  if (__pyx_v_x) {

    /* "b.pxd":7
 *     return 1             # <<<<<<<<<<<<<<
*/
    return 1;
  }

  /* function exit code */
  return 0;
}

static CYTHON_SMALL_CODE int __pyx_pymod_exec_a(PyObject *m) {
  /* "conntrack/core/a.pyx":1
*/
  prepare();
  /* "(tree fragment)":1
*/
}
"""


def test_c_belongs_to_the_line_that_cython_names_before_it() -> None:
    """Not what a function begins and ends with, what runs at import, or what is of no source of ours."""
    sources = {"conntrack/core/a.pyx": "a", "b.pxd": "b"}
    lines = C.split("\n")
    found = {lines[number - 1].strip(): where for number, where in lines_of_c(C, sources)}
    code = {line: where for line, where in found.items() if line.endswith((";", "{"))}
    assert code == {"if (__pyx_v_x) {": ("a", 4), "return 1;": ("b", 7)}


def test_valgrinds_errors_are_ours_where_a_kernel_is_among_the_callers(tmp_path: Path) -> None:
    errors = [("InvalidRead", f"{OURS}core/step.so"), ("InvalidRead", "/lib/numpy.so"), ("Leak_Lost", f"{OURS}a.so")]
    texts = [
        f"<error><kind>{kind}</kind><what>of {where}</what>"
        f"<stack><frame><obj>/lib/c.so</obj><fn>memcpy</fn></frame><frame><obj>{where}</obj></frame></stack></error>"
        for kind, where in errors
    ]
    said = tmp_path / "said.xml"
    said.write_text(f"<valgrindoutput>{''.join(texts)}</valgrindoutput>")
    assert errors_of(said) == [f"of {OURS}core/step.so\n  memcpy (c.so)\n  ? (step.so)"]


def test_what_the_whole_suite_leaves_out_is_there(root: Path) -> None:
    assert all((root / path).exists() for path in LEFT_OUT)


def test_the_checked_kernels_pass_and_their_lines_are_reached(root: Path) -> None:
    command = [sys.executable, "-m", "benches.covered"]
    done = subprocess.run(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, done.stdout
    reached = kernel_lines()
    assert len(reached) >= 45 and sum(map(len, reached.values())) > 4000, "every module is counted"
