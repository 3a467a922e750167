"""``python -m bench``: wharfd against Debian's docker.io, on one machine, in one run.

Prints a table of both and their ratio (medians) and writes all samples as JSON to
``bench/results/``. Both daemons run the whole time; each measure is taken on one, then on the
other, by the same client.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import statistics
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench import reference
from bench.engines import Daemon, Dockerd, Wharfd
from bench.measures import FULL, MEASURES, QUICK, Scale

RESULTS = Path(__file__).resolve().parent / "results"


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer repeats and smaller batches")
    parser.add_argument("--only", choices=("wharfd", "dockerd"), help="measure one of the two")
    parser.add_argument("--measures", nargs="*", help="names of functions of bench.measures")
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("the benchmark needs root: it runs two daemons", file=sys.stderr)
        return 1
    scale = QUICK if options.quick else FULL
    with contextlib.ExitStack() as stack:
        daemons = [
            _started(make(), stack) for name, make in _FACTORIES.items() if options.only in (None, name)
        ]
        result = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "machine": _machine(),
            "scale": asdict(scale),
            "versions": {daemon.name: daemon.version for daemon in daemons},
            "rows": _measure(daemons, scale, options.measures),
        }
    _print(result)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{time.strftime('%Y%m%d-%H%M%S')}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(f"\nall samples: {path}")
    return 0


_FACTORIES = {"wharfd": Wharfd, "dockerd": lambda: Dockerd(reference.find())}


def _started(daemon: Daemon, stack: contextlib.ExitStack) -> Daemon:
    stack.callback(daemon.close)
    daemon.start()
    daemon.load_image()
    return daemon


def _machine() -> dict[str, Any]:
    return {"cpus": os.cpu_count(), "kernel": platform.release(), "python": platform.python_version()}


def _measure(daemons: list[Daemon], scale: Scale, only: list[str] | None) -> list[dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = {}
    for function, units, higher in MEASURES:
        if only and function.__name__ not in only:
            continue
        for daemon in daemons:
            print(f"{function.__name__}: {daemon.name}", file=sys.stderr)
            for name, samples in function(daemon, scale).items():
                unit = next(
                    (unit for start, unit in units.items() if start and name.startswith(start)), units[""]
                )
                row = rows.setdefault(
                    name, {"name": name, "unit": unit, "higher_is_better": higher, "samples": {}}
                )
                row["samples"][daemon.name] = samples
    return list(rows.values())


def _print(result: dict[str, Any]) -> None:
    names = list(result["versions"])
    heads = [f"{name} {version}" for name, version in result["versions"].items()]
    print(f"{'median':<34}" + "".join(f"{head:>24}" for head in heads) + f"{'ratio':>10}")
    for row in result["rows"]:
        medians = [statistics.median(row["samples"][name]) for name in names]
        line = f"{row['name']:<34}" + "".join(
            f"{_number(value)} {row['unit']:<4}".rjust(24) for value in medians
        )
        if len(medians) == 2 and medians[1]:
            line += f"{medians[0] / medians[1]:>10.2f}"
        print(line + ("  (more is better)" if row["higher_is_better"] else ""))


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


if __name__ == "__main__":
    sys.exit(main())
