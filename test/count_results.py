"""Adds up what the test suites reported and prints the one closing line of `tools/dev test`.

usage: count_results.py NAME=EXIT_STATUS=JUNIT_FILE ...

A suite whose report is missing or empty, or that exited with an error though its report names no failure, counts as
one failure: silence is never success.
"""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path


def count(path: Path) -> tuple[int, int, int]:
    """Passed, failed and skipped test cases of a JUnit file (pytest, ctest, lit and tools/lint write this format)."""
    passed = failed = skipped = 0
    for case in ElementTree.parse(path).getroot().iter("testcase"):
        tags = {child.tag for child in case}
        if tags & {"failure", "error"} or case.get("status") == "fail":
            failed += 1
        elif "skipped" in tags or case.get("status") in ("disabled", "notrun"):
            skipped += 1
        else:
            passed += 1
    return passed, failed, skipped


def main(arguments: list[str]) -> int:
    total_passed = total_failed = total_skipped = 0
    notes = []
    for argument in arguments:
        name, status, file = argument.split("=", 2)
        try:
            passed, failed, skipped = count(Path(file))
        except (OSError, ElementTree.ParseError):
            passed, failed, skipped = 0, 1, 0
            notes.append(f"{name} left no report")
        if passed + failed == 0:
            failed = 1
            notes.append(f"{name} ran no test")
        elif int(status) != 0 and failed == 0:
            failed = 1
            notes.append(f"{name} exited with status {status}")
        print(f"  {name:8} {passed:6} passed {failed:4} failed {skipped:4} skipped")
        total_passed += passed
        total_failed += failed
        total_skipped += skipped
    if not arguments:
        total_failed, notes = 1, ["no suite was named"]
    tail = f", {total_skipped} skipped" if total_skipped else ""
    tail += f" ({'; '.join(notes)})" if notes else ""
    print(f"heddle: {total_passed} passed, {total_failed} failed{tail}")
    return 1 if total_failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
