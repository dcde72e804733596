"""``python -m boldstream.conformance CASE.json``: our numbers against those of the reference implementations.

A case is ``NAME.json`` (the sizes) beside ``NAME.safetensors`` (weights, input, expected tensors), or a JSON
file alone whose weights follow a formula. Weights go through the loader of released checkpoints.

Exit status: 0 if every expected value is met within 1e-5, 1 if one is not, 2 if the case cannot be run.
"""

import argparse
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from boldstream.errors import BoldstreamError, ModelError

LIMIT = 1e-5
FORMULA = "Brain-JEPA (formula)"


@dataclass(frozen=True)
class Comparison:
    """One expected value and how far ours is from it.

    Attributes
    ----------
    name : str
        Name in the case.
    dtype : str
        Precision that ours was computed in.
    difference : float
        Largest absolute difference.
    """

    name: str
    dtype: str
    difference: float

    @property
    def met(self) -> bool:
        """Whether the difference is a number within the limit."""
        return math.isfinite(self.difference) and self.difference <= LIMIT


def compare_case(path: Path) -> list[Comparison]:
    """Run a case and compare every value that it expects.

    Raises
    ------
    BoldstreamError
        If the case cannot be run: files, keys or shapes that do not fit, an unknown system, nothing expected.
    """
    case = _read_case(path)
    system = FORMULA if "weight_rule" in case else case.get("system")
    systems = _systems()
    if not isinstance(system, str) or system not in systems:
        raise ModelError(f"{path}: unknown system {system!r}; known: {', '.join(systems)}")
    comparisons = systems[system](path, case)
    if not comparisons:
        raise ModelError(f"{path}: expects nothing, so there is nothing to compare")
    return comparisons


def _systems() -> dict[str, Callable[[Path, Mapping[str, Any]], list[Comparison]]]:
    """Return what runs each system's cases (imported here: ``--help`` needs no torch)."""
    from boldstream.encoders.brainjepa import cases, formula

    def brainjepa(path: Path, case: Mapping[str, Any]) -> list[Comparison]:
        return [Comparison(*row) for row in cases.compare(path, case)]

    def by_formula(path: Path, case: Mapping[str, Any]) -> list[Comparison]:
        return [Comparison(*row) for row in formula.compare(path, case)]

    return {"Brain-JEPA": brainjepa, FORMULA: by_formula}


def _read_case(path: Path) -> dict[str, Any]:
    try:
        case = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"{path}: not valid JSON ({error}); name the case's .json file") from None
    if not isinstance(case, dict):
        raise ModelError(f"{path}: holds {type(case).__name__}, not a case's keys and values")
    return case


def table(comparisons: Sequence[Comparison]) -> str:
    """Return comparisons as a text table."""
    width = max(len("expected"), *(len(c.name) for c in comparisons))
    lines = [f"{'expected':<{width}}  {'computed in':<11}  {'largest |difference|':>20}  within {LIMIT:g}"]
    lines += [
        f"{c.name:<{width}}  {c.dtype:<11}  {c.difference:>20.3e}  {'yes' if c.met else 'NO'}" for c in comparisons
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m boldstream.conformance",
        description="Compare boldstream's numbers with those of a reference implementation, on the CPU.",
        epilog=f"Exit status: 0 all within {LIMIT:g}, 1 not all, 2 the case cannot be run.",
    )
    parser.add_argument("case", type=Path, metavar="CASE.json", help="the case; its .safetensors lies beside it")
    case: Path = parser.parse_args(arguments).case
    try:
        comparisons = compare_case(case)
    except BoldstreamError as error:
        print(f"conformance: {error}", file=sys.stderr)
        return 2
    print(table(comparisons))
    failed = [c.name for c in comparisons if not c.met]
    print(f"{case}: {len(comparisons) - len(failed)} of {len(comparisons)} within {LIMIT:g}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
