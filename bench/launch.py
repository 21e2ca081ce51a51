"""Run one program and say how long it took and what it used; needs nothing but the standard library.

A process of its own, started bare: the kernel counts the memory of whoever calls exec towards
the peak of what it becomes, and the bench itself is bigger than some things it measures.

`python -IS launch.py RESULT PROGRAM ARGUMENT…` writes JSON to the file RESULT.
"""

import json
import os
import sys
import time


def main(result: str, argv: list[str]) -> None:
    """Run `argv` to its end; its output stays where ours goes."""
    began = time.monotonic()
    pid = os.posix_spawnp(argv[0], argv, os.environ)
    _, status, used = os.wait4(pid, 0)
    found = {
        "seconds": time.monotonic() - began,
        "cpu": used.ru_utime + used.ru_stime,
        "peak": used.ru_maxrss * 1024,
        "exit": os.waitstatus_to_exitcode(status),
    }
    with open(result, "w", encoding="ascii") as file:  # noqa: PTH123 (pathlib would cost memory)
        json.dump(found, file)


main(sys.argv[1], sys.argv[2:])
