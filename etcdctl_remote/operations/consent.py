"""How an operator agrees to a plan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, Self

from ..errors import Refused, UsageError
from ..plan.step import Plan


class Asker(Protocol):
    """Somebody at a terminal. UsageError where there is nobody."""

    def confirm(self, question: str) -> bool: ...
    def typed(self, cluster: str, cost: str) -> bool: ...


class Declined(Refused):
    """The operator was asked and said no; nothing was changed."""


@dataclass(frozen=True)
class Consent:
    """Show the plan, and ask once; a dry run shows it and never agrees."""

    show: Callable[[Plan], None]
    asker: Asker
    yes: bool = False
    dry_run: bool = False

    def given(self, plan: Plan) -> bool:
        """Whether to carry the plan out: never in a dry run. Declined if the answer is no."""
        if self.dry_run:
            return False
        self.show(plan)
        if not self.yes and not self.asker.confirm(f"Carry out these {plan.changes} steps?"):
            raise Declined("not agreed to; nothing was changed")
        return True

    def confirmed(self, plan: Plan, given: str, cluster: str, cost: str) -> bool:
        """Insist on the cluster's name where data could be lost; --yes is never enough."""
        if self.dry_run:
            return False
        self.show(plan)
        if given and given != cluster:
            raise UsageError(
                f"--confirm {given} is not the cluster's name", f"to agree, give --confirm {cluster}"
            )
        if not given and not self.asker.typed(cluster, cost):
            raise Declined("not agreed to; nothing was changed")
        return True


@dataclass(frozen=True)
class Insistent(Consent):
    """Consent that takes the cluster's name where a plan has a certain note."""

    over: str = ""
    cluster: str = ""
    confirm: str = ""

    @classmethod
    def of(cls, other: Consent, over: str, cluster: str, confirm: str) -> Self:
        """The same, insisting."""
        return cls(other.show, other.asker, other.yes, other.dry_run, over, cluster, confirm)

    def given(self, plan: Plan) -> bool:
        """Whether to carry the plan out; --yes is not enough over that note."""
        if self.over in plan.notes:
            return self.confirmed(plan, self.confirm, self.cluster, self.over)
        return super().given(plan)
