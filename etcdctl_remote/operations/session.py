"""What an operation works with: its cluster, the hosts, the certificates, the journal.

An operation never learns how these were made: see `etcdctl_remote.session`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ..desired.model import ClusterSpec
from ..errors import Failed, LoginFailed, Problem, bare, gather
from ..observed.observe import Question, observe
from ..observed.state import ClusterState, HostState, clock
from ..plan.events import Event, Listener
from ..plan.execute import Executor
from ..plan.journal import Journal
from ..plan.step import Plan
from ..remote.host import Host
from ..secret import Secret

if TYPE_CHECKING:
    from ..pki.generation import Due, Generation
    from ..pki.keyring import Keyring
    from ..pki.store import Store
    from ..remote.fleet import Fleet


@dataclass(frozen=True)
class Ways:
    """How a session meets its surroundings; a test or a script replaces what it needs."""

    tell: Callable[[str], None] = lambda line: None
    """Shows one line of progress outside a plan: "connecting to 3 hosts"."""
    password: Callable[[str], Secret] | None = None
    """Asks for a password or a passphrase; None where nobody can be asked."""
    listen: Listener = lambda event: None
    """Follows a plan's events: a progress display."""


@dataclass(frozen=True)
class Session:
    """One task's view of its cluster."""

    cluster: ClusterSpec
    fleet: Fleet
    journal: Journal | None
    ways: Ways
    unreachable: Mapping[str, Problem] = field(default_factory=dict)
    still_ours: Callable[[], None] = lambda: None
    """Raises when the lock on some host was lost."""
    keys: Keyring | None = None
    """What opens the CA keys, and remembers what was typed; None: what the inventory says."""

    def store(self) -> Store:
        """The certificates of this cluster, and what opens their CA keys: asked for once in a run."""
        from ..pki.store import Store

        return Store.beside(self.cluster, self.keys)

    def prepare(self, due: Due | None = None, *, replacing: bool = False) -> Generation:
        """Work out the certificates in memory: what exists, and what would be issued.

        Without `due` only what is missing, does not fit the inventory or has expired. Where signing
        takes a sealed key or somebody else, the new ones are stand-ins until `signed`. Whoever is
        `replacing` the CAs may find others in the inventory than are in use.
        """
        from ..pki.generation import EXPIRED

        now = datetime.now(UTC)
        return self.store().prepare(self.cluster, now, due or EXPIRED, replacing=replacing)

    def signed(self, generation: Generation) -> Generation:
        """Have what only was stood in for really signed; Refused while requests wait in a folder."""
        return self.store().signed(generation, self.cluster, datetime.now(UTC))

    def held(self) -> Generation | None:
        """Read the certificates this laptop holds, as they are; None if there are none."""
        return self.store().load()

    def save(self, generation: Generation) -> None:
        """Make prepared certificates the current ones."""
        store = self.store()
        store.save(generation)
        store.tidy(self.cluster, tuple(generation.credentials.values()))

    def remember(self, generation: Generation, now: ClusterState) -> None:
        """Note on the laptop, once, that this cluster serves: then it is never taken for a new one."""
        from ..pki.generation import Formed

        if generation.formed is None and now.has_quorum and len(now.cluster_ids) == 1:
            formed = Formed(next(iter(now.cluster_ids)), datetime.now(UTC))
            self.store().remember(generation.token, formed)

    def observe(
        self, paths: Mapping[str, Sequence[str]] | None = None, dials: Collection[str] = ()
    ) -> ClusterState:
        """Observe every connected host at once; a host that fails to answer is unreachable.

        `paths` names the paths whose state is wanted, by node; `dials` the nodes whose ports are
        dialled anew, with the certificates this laptop holds.
        """
        began = clock()
        asked = paths or {}
        held = self.held() if dials else None

        def ask(host: Host) -> HostState:
            question = Question(self.cluster.node(host.name), tuple(asked.get(host.name, ())))
            seen = observe(self.cluster, question, host)
            if held is None or host.name not in dials:
                return seen
            from ..observed.wire import look

            return replace(seen, wire=look(self.cluster, held, host))

        answers = self.fleet.spread(self.fleet.hosts, ask)
        bugs = {
            name: e for name, e in answers.items() if isinstance(e, Exception) and not isinstance(e, Problem)
        }
        if bugs:
            raise gather(bugs, "observe")
        lost = {name: bare(name, problem) for name, problem in self.unreachable.items()}
        lost |= {name: bare(name, answer) for name, answer in answers.items() if isinstance(answer, Problem)}
        ways = {name: answer.hint for name, answer in answers.items() if isinstance(answer, LoginFailed)}
        hosts = {name: answer for name, answer in answers.items() if isinstance(answer, HostState)}
        return ClusterState(hosts, lost, began, ways)

    def execute(self, plan: Plan) -> None:
        """Run a plan: journal, progress, gates."""

        def tell(event: Event) -> None:
            if self.journal:
                self.journal(event)
            self.ways.listen(event)

        if self.journal:
            self.journal.plan(plan)
        Executor(
            self.fleet, lambda dials: self.observe(dials=dials), tell, self.explain, self.still_ours
        ).execute(plan)

    def explain(self, now: ClusterState, reason: str) -> Problem:
        """Read the journals of members that do not serve, and say what stands there."""
        from ..plan.explain import explain, journal_command, journal_lines

        silent = [name for name, host in now.hosts.items() if not host.serving]
        try:
            found = self.fleet.each(
                lambda host: journal_lines(host.run(journal_command(), check=False).text), hosts=silent
            )
        except Problem:
            found = {}
        return explain(now, reason, found)


def cache_dir() -> Path:
    """Return the folder on this laptop where releases are kept between runs."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "etcdctl-remote" / "releases"


def resolved(cluster: ClusterSpec) -> ClusterSpec:
    """Return the cluster if every address is known; Failed names those that are not."""
    missing = [node.name for node in cluster.nodes if node.address is None]
    if missing:
        raise Failed(f"the addresses of {', '.join(missing)} are not known", "make those hosts reachable")
    return cluster
