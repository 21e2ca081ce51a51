"""Make this machine ready for the demo or the tests: engine, node images, etcd releases.

`python -m etcdctl_remote.lab.prepare demo|test`; what is there already is only checked.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from ..errors import Failed, Problem
from . import engine, image, releases
from .machine import Say, arch, emulate, need


def demo(say: Say) -> None:
    """Everything for three Debian 12 nodes with the current release."""
    engine.connect(say)
    image.ensure("debian12", say)
    releases.ensure(releases.FOR_TESTS[0], say=say)


def test(say: Say) -> None:
    """Everything the tests use; a release that no source gives is said, and its tests skip.

    Images wait for a mirror, releases for the compiler: they are made side by side.
    """
    need("ssh", "openssh-client", say=say)
    need("sshd", "openssh-server", say=say)
    engine.connect(say)
    with ThreadPoolExecutor(1) as beside:
        images = beside.submit(_images, say)
        for version in releases.FOR_TESTS:
            _try(partial(releases.ensure, version, say=say), say)
        images.result()
    _try(partial(_other_architecture, say), say)


def _images(say: Say) -> None:
    for os_name in image.SUITES:
        image.ensure(os_name, say)


def _other_architecture(say: Say) -> None:
    there = "arm64" if arch() == "amd64" else "amd64"
    emulate(there, say)
    releases.ensure(releases.FOR_TESTS[0], say=say, machine=there)


def _try(make: Callable[[], object], say: Say) -> None:
    try:
        make()
    except Failed as error:
        say(str(error))


TARGETS: dict[str, Callable[[Say], None]] = {"demo": demo, "test": test}


def main(argv: list[str]) -> int:
    """Run one target; its progress goes to stderr."""
    if len(argv) != 1 or argv[0] not in TARGETS:
        sys.stderr.write(f"usage: python -m etcdctl_remote.lab.prepare {'|'.join(TARGETS)}\n")
        return 2
    try:
        TARGETS[argv[0]](lambda line: print(f"· {line}", file=sys.stderr, flush=True))
    except Problem as problem:
        print(problem, file=sys.stderr)
        return problem.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
