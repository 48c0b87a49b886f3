"""Mutation testing: are the rules and the detectors held by their tests?

    python -m benches.mutants                              every source of mutants.toml
    python -m benches.mutants conntrack/transitions.py     some of them
    python -m benches.mutants --again FILE                 what survived last time (build/mutants/)

Takes a source apart into mutants, each with one small fault (cosmic-ray's operators and three of our own, see
`operators`), and runs over each the tests that belong to the source. A mutant that no test notices has survived: either
a test is missing, or the fault is none, and then mutants.toml says why. The sources stay as they are: a child process
imports the mutant in the place of its source.

Not mutated: words (docstrings, caveats, names of evidence), annotations, decorators. Exits with 1 where a mutant
survived for no known reason; the account of a run is kept in benches/results/.

Needs cosmic-ray besides what the tests need: `pip install cosmic-ray`.
"""

from __future__ import annotations

import ast
import importlib.machinery
import json
import os
import resource
import signal
import sys
import time
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.abc import MetaPathFinder
from importlib.util import spec_from_file_location
from pathlib import Path
from typing import Any, ClassVar

import click
import parso
import pytest
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.operator import Operator
from cosmic_ray.operators.provider import OperatorProvider
from hypothesis import Phase, settings

from benches.record import RESULTS, ROOT, commit
from conntrack import states
from conntrack.core.counts import Slow
from conntrack.core.survey import Attempt, Trait

__all__ = ["Mutant", "mutants_of", "operators"]

SETTINGS = ROOT / "benches" / "mutants.toml"
KEPT = ROOT / "build" / "mutants"
MOST_BYTES = 32 << 30
SLOWEST = 5  # a mutant that takes so many times as long as the source itself, and ten seconds more, runs in circles

ONE_FOR_EACH = {
    "Binary": "Add_Sub Sub_Add Mul_Div Div_Mul FloorDiv_Mul Mod_Mul Pow_Mul RShift_LShift LShift_RShift"
    " BitOr_BitAnd BitAnd_BitOr BitXor_BitAnd",
    "Comparison": "Lt_LtE Lt_GtE LtE_Lt LtE_Gt Gt_GtE Gt_LtE GtE_Gt GtE_Lt Eq_NotEq NotEq_Eq Is_IsNot IsNot_Is",
    "Unary": "Delete_USub Delete_Invert Delete_Not",
}
"""Of cosmic-ray's replacements of an operator by every other: a bound that moves by one, and the opposite."""
OTHERS = (
    "AddNot ReplaceTrueWithFalse ReplaceFalseWithTrue ReplaceAndWithOr ReplaceOrWithAnd ReplaceBreakWithContinue"
    " ReplaceContinueWithBreak NumberReplacer ZeroIterationForLoop"
)
ENUMS = (
    states.TcpState, states.SegmentEvent, states.Role, states.StateTrait, states.Evidence, states.EndReason,
    states.ClosedBy, states.FlowFlag, Trait, Slow, Attempt,
)  # fmt: skip
ALONE = (states.TcpState, states.SegmentEvent, states.Role)
"""Whose members transitions.py writes without the name of the enumeration."""


def _next_members(enums: Iterable[Any]) -> dict[str, str]:
    following = {}
    for enum in enums:
        names = [member.name for member in enum]
        following.update(zip(names, [*names[1:], names[0]], strict=True))
    return following


class NextMember(Operator):  # type: ignore[misc]
    """Takes the next member of an enumeration: another state, event, role, flag or reason."""

    of_enum: ClassVar = {enum.__name__: _next_members([enum]) for enum in ENUMS}
    alone: ClassVar = {**_next_members(ALONE), "IGNORE": "INVALID"}

    def _other(self, node: Any) -> str | None:
        if node.type != "name" or node.search_ancestor("import_from") or node.is_definition():
            return None
        dot = node.get_previous_leaf()
        if dot is not None and dot.value == ".":
            return self.of_enum.get(getattr(dot.get_previous_leaf(), "value", ""), {}).get(node.value)
        return self.alone.get(node.value)

    def mutation_positions(self, node: Any) -> Iterator[Any]:
        if self._other(node):
            yield node.start_pos, node.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        node.value = self._other(node)
        return node

    @classmethod
    def examples(cls) -> tuple[()]:
        return ()


class DropRule(Operator):  # type: ignore[misc]
    """Leaves a rule of transitions.py out."""

    def mutation_positions(self, node: Any) -> Iterator[Any]:
        if node.type == "atom_expr" and node.children[0].get_code().strip() == "_rule":
            yield node.start_pos, node.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        return parso.parse("*()").children[0]

    @classmethod
    def examples(cls) -> tuple[()]:
        return ()


class OtherAssignment(Operator):  # type: ignore[misc]
    """Replaces +=, -=, &= and |= by the opposite."""

    opposite: ClassVar = {"+=": "-=", "-=": "+=", "&=": "|=", "|=": "&="}

    def mutation_positions(self, node: Any) -> Iterator[Any]:
        if node.type == "operator" and node.value in self.opposite:
            yield node.start_pos, node.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        node.value = self.opposite[node.value]
        return node

    @classmethod
    def examples(cls) -> tuple[()]:
        return ()


def operators() -> list[Operator]:
    """Return what makes the faults."""
    provided = OperatorProvider()
    names = OTHERS.split()
    for kind, pairs in ONE_FOR_EACH.items():
        names += [f"Replace{kind}Operator_{pair}" for pair in pairs.split()]
    return [NextMember(), DropRule(), OtherAssignment(), *(provided[name]() for name in names)]


@dataclass(frozen=True, slots=True)
class Mutant:
    """A source with one fault: the line where it is, what stood there and what stands there now."""

    line: int
    was: str
    becomes: str
    source: str


def _spans_left_out(source: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Return from where to where there are annotations and decorators: they decide nothing."""
    left_out: list[ast.expr] = []
    for node in ast.walk(ast.parse(source)):
        left_out += [
            part for name in ("annotation", "returns") if isinstance(part := getattr(node, name, None), ast.expr)
        ]
        left_out += getattr(node, "decorator_list", [])
    return [((p.lineno, p.col_offset), (p.end_lineno or p.lineno, p.end_col_offset or 0)) for p in left_out]


def mutants_of(source: str) -> Iterator[Mutant]:
    """Yield every mutant of a source that still is Python, in no order that matters."""
    left_out = _spans_left_out(source)
    tree = get_ast(source)
    before = source.splitlines()
    for operator in operators():
        places = [place for node in ast_nodes(tree) for place in operator.mutation_positions(node)]
        for number, (start, _) in enumerate(places):
            if any(first <= start < last for first, last in left_out):
                continue
            mutated = mutate_code(source, operator, number)
            try:
                ast.parse(mutated)
            except SyntaxError:
                continue
            after = mutated.splitlines()
            line = next((at for at, pair in enumerate(zip(before, after, strict=False)) if pair[0] != pair[1]), None)
            if line is not None:
                yield Mutant(line + 1, before[line].strip(), after[line].strip(), mutated)


class _InPlace(importlib.machinery.SourceFileLoader):
    """Loads the mutant under the name and the path of its source."""

    mutated = ""

    def get_code(self, fullname: str) -> Any:
        return compile(self.mutated, self.path, "exec", dont_inherit=True)


class _Finder(MetaPathFinder):
    def __init__(self, path: Path, mutated: str) -> None:
        self._name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        self._loader = _InPlace(self._name, str(path))
        self._loader.mutated = mutated
        self._path = path

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        return spec_from_file_location(fullname, self._path, loader=self._loader) if fullname == self._name else None


def _drop_python_of_ours() -> None:
    """Forget what was imported of the package but its extension modules, which know nothing of the rest."""
    for name, module in list(sys.modules.items()):
        spec = getattr(module, "__spec__", None)
        compiled = spec is not None and isinstance(spec.loader, importlib.machinery.ExtensionFileLoader)
        if name.partition(".")[0] == "conntrack" and not compiled:
            del sys.modules[name]


def _in_child(path: Path, mutated: str, test: str) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nowhere, number)
    settings.register_profile("mutants", database=None, deadline=None, phases=[Phase.explicit, Phase.generate])
    sys.meta_path.insert(0, _Finder(path, mutated))
    _drop_python_of_ours()
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    options = ["-x", "--assert=plain", "-p", "no:cacheprovider", "-p", "_hypothesis_pytestplugin"]
    code = pytest.main([*options, "--hypothesis-profile=mutants", "--hypothesis-seed=0", test])
    os._exit(int(code))


def passes(path: Path, mutated: str, test: str, limit_s: float) -> bool:
    """Return whether a file of tests notices nothing with `mutated` in the place of `path`, or takes over `limit_s`."""
    child = os.fork()
    if child == 0:
        try:
            _in_child(path, mutated, test)
        finally:
            os._exit(99)
    until = time.monotonic() + limit_s
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status) == 0
        if time.monotonic() > until:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return False
        time.sleep(0.005)


def _survived_before(path: Path) -> set[tuple[str, str]]:
    kept = KEPT / f"{path.stem}.json"
    return {(was, becomes) for was, becomes in json.loads(kept.read_text())} if kept.is_file() else set()


def run(path: Path, tests: list[str], reasons: dict[tuple[str, str], str], again: bool) -> dict[str, Any]:
    """Run the tests over every mutant of one source; say which survive, and return the account."""
    source, name = path.read_text(), str(path.relative_to(ROOT))
    began = time.monotonic()
    limits_s = {}
    for test in tests:
        start = time.monotonic()
        if not passes(path, source, test, 600):
            raise click.ClickException(f"{name}: its tests fail as it is; python -m pytest {test}")
        limits_s[test] = SLOWEST * (time.monotonic() - start) + 10
    before = _survived_before(path)
    mutants, survived = 0, []
    for mutant in mutants_of(source):
        fault = (mutant.was, mutant.becomes)
        if again and fault not in before:
            continue
        mutants += 1
        if all(passes(path, mutant.source, test, limits_s[test]) for test in tests):
            survived.append(fault)
            if fault not in reasons:
                click.echo(f"{name}:{mutant.line}: {mutant.was}\n    => {mutant.becomes}  (mutant {mutants})")
                sys.stdout.flush()
    KEPT.mkdir(parents=True, exist_ok=True)
    (KEPT / f"{path.stem}.json").write_text(json.dumps(survived))
    explained = sum(fault in reasons for fault in survived)
    return {
        "mutants": mutants,
        "killed": mutants - len(survived),
        "survived_for_a_reason": explained,
        "survived": len(survived) - explained,
        "seconds": round(time.monotonic() - began),
    }


@click.command(help=__doc__)
@click.argument("files", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--again", is_flag=True, help="Only the mutants that survived last time; keeps no account.")
def main(files: tuple[Path, ...], again: bool) -> None:
    known = tomllib.loads(SETTINGS.read_text())
    paths = [path.resolve() for path in files] or [ROOT / name for name in known["tests"]]
    account = {}
    for path in paths:
        name = str(path.relative_to(ROOT))
        reasons = {(one["was"], one["becomes"]): one["reason"] for one in known["survives"].get(name, [])}
        tests = [f"tests/unit/{test}" for test in known["tests"][name]]
        account[name] = run(path, tests, reasons, again)
        click.echo(f"{name}: {account[name]}")
    if not again:
        day = datetime.now(UTC).strftime("%Y-%m-%d")
        (RESULTS / f"mutants-{day}-{commit()}.json").write_text(json.dumps(account, indent=1) + "\n")
    raise SystemExit(any(one["survived"] for one in account.values()))


if __name__ == "__main__":
    os.chdir(ROOT)
    main()
