"""All figures: `python -m tests.bench [--size small|full] [--only f1 f4]`, or `make bench [SIZE=small] [ONLY="f1 f4"]`.

Each program is a process of its own and says itself what it found; at the end all figures stand in one table beside
their targets, and in build/bench/results.json. A target that is not reached is no failure. Books that are wrong are.
"""

from __future__ import annotations

import argparse
import json
import pkgutil
import subprocess
import sys
from collections.abc import Sequence

import tests.bench
from tests.bench.report import RESULTS, Result, end_in_order, number_of, result_of, show
from tests.bench.sizes import SIZES


def programs(only: Sequence[str]) -> list[str]:
    """The programs in the order of their numbers; all, or those with the given ones: `f1`, `f10`."""
    found = [module.name for module in pkgutil.iter_modules(tests.bench.__path__) if _number(module.name)]
    chosen = [name for name in found if not only or name.partition("_")[0] in only]
    return sorted(chosen, key=lambda name: (_number(name), name))


def _number(name: str) -> int:
    """7 for `f7_sweep`; 0 for what measures no figure."""
    number = name.partition("_")[0].removeprefix("f")
    return int(number) if name.startswith("f") and number.isdigit() else 0


def _run(program: str, size: str) -> Result | None:
    """What the program found, or None where it failed."""
    path = RESULTS / f"{program}.json"
    path.unlink(missing_ok=True)
    status = _wait_for(subprocess.Popen([sys.executable, "-m", f"tests.bench.{program}", "--size", size]))
    return result_of(json.loads(path.read_text(encoding="utf-8"))) if status == 0 else None


def _wait_for(program: subprocess.Popen[bytes]) -> int:
    """The exit status. Whatever ends this process lets the program put away what it started."""
    try:
        return program.wait()
    except KeyboardInterrupt:  # which the terminal sends to both
        program.wait()
        raise
    except SystemExit:
        program.terminate()
        program.wait()
        raise


def main() -> int:
    """The exit status: 0 where every program measured and proved its books."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--only", nargs="*", default=[], metavar="FIGURE", help="such as f1 f4")
    arguments = parser.parse_args()
    chosen = programs(arguments.only)
    if not chosen:
        parser.error(f"there is none of {' '.join(arguments.only)}; there are {' '.join(programs([]))}")
    end_in_order()
    found = {program: _run(program, arguments.size) for program in chosen}
    results = [result for result in found.values() if result is not None]
    failed = [program for program, result in found.items() if result is None]
    _keep(results, failed)
    if len(results) > 1:  # one alone has just been shown
        show(results)
    sys.stdout.write(_verdict(results, failed) + "\n")
    return 1 if failed else 0


def _keep(results: Sequence[Result], failed: Sequence[str]) -> None:
    RESULTS.mkdir(parents=True, exist_ok=True)
    written = json.dumps(
        {"failed": failed, "programs": [result.to_json() for result in results]}, indent=2, ensure_ascii=False
    )
    (RESULTS / "results.json").write_text(written + "\n", encoding="utf-8")


def _verdict(results: Sequence[Result], failed: Sequence[str]) -> str:
    judged = [(number_of(result), figure) for result in results for figure in result.figures if figure.targets]
    missed = [f"{number} {figure.name}" for number, figure in judged if not figure.is_reached]
    said = [f"Of {len(judged)} figures with a target, {len(judged) - len(missed)} reach it."]
    if missed:
        said.append(f"Not: {'; '.join(missed)}.")
    if failed:
        said.append(f"FAILED, see above: {', '.join(failed)}.")
    else:
        said.append("The books are right after each.")
    return " ".join(said)


if __name__ == "__main__":
    sys.exit(main())
