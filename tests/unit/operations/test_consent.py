"""Who agrees to what: --yes to a plan, the cluster's name to a loss, nobody to a dry run."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from etcdctl_remote.errors import UsageError
from etcdctl_remote.operations.consent import Consent, Declined
from etcdctl_remote.plan.step import Plan, Stage
from etcdctl_remote.plan.steps import StopEtcd

PLAN = Plan("stop demo", (Stage("stop", (StopEtcd("n1"), StopEtcd("n2"))),))


@dataclass
class Somebody:
    """Answers what it is told to, and remembers the questions."""

    answer: bool = True
    asked: list[str] = field(default_factory=list)

    def confirm(self, question: str) -> bool:
        self.asked.append(question)
        return self.answer

    def typed(self, cluster: str, cost: str) -> bool:
        self.asked.append(f"{cluster}: {cost}")
        return self.answer


def consent(somebody: Somebody, shown: list[Plan], *, yes: bool = False, dry_run: bool = False) -> Consent:
    return Consent(shown.append, somebody, yes=yes, dry_run=dry_run)


def test_asks_once_after_showing() -> None:
    """How many steps it is about."""
    somebody, shown = Somebody(), list[Plan]()
    assert consent(somebody, shown).given(PLAN)
    assert (somebody.asked, shown) == (["Carry out these 2 steps?"], [PLAN])


def test_no_is_an_end() -> None:
    """Exit 4, and nothing was changed."""
    with pytest.raises(Declined, match="nothing was changed") as caught:
        consent(Somebody(answer=False), []).given(PLAN)
    assert caught.value.exit_code == 4


def test_yes_is_not_asked() -> None:
    """But shown what is done."""
    somebody, shown = Somebody(answer=False), list[Plan]()
    assert consent(somebody, shown, yes=True).given(PLAN)
    assert (somebody.asked, shown) == ([], [PLAN])


@pytest.mark.parametrize("yes", [True, False])
@pytest.mark.parametrize("confirm", ["", "demo", "other"])
def test_a_dry_run_agrees_to_nothing(yes: bool, confirm: str) -> None:
    """Whatever else is given; nobody is asked."""
    somebody = Somebody()
    chosen = consent(somebody, [], yes=yes, dry_run=True)
    assert not chosen.given(PLAN)
    assert not chosen.confirmed(PLAN, confirm, "demo", "cost")
    assert not somebody.asked


def test_yes_alone_never_costs_data() -> None:
    """The name is asked for all the same."""
    somebody = Somebody(answer=False)
    with pytest.raises(Declined):
        consent(somebody, [], yes=True).confirmed(PLAN, "", "demo", "all is lost")
    assert somebody.asked == ["demo: all is lost"]


def test_the_name_given_or_typed() -> None:
    """Either is enough, without --yes too."""
    somebody = Somebody()
    assert consent(somebody, []).confirmed(PLAN, "demo", "demo", "cost")
    assert not somebody.asked
    assert consent(somebody, []).confirmed(PLAN, "", "demo", "cost")


@pytest.mark.parametrize("given", ["other", "Demo", "demo ", "yes"])
def test_another_name_is_wrong_usage(given: str) -> None:
    """The wrong inventory, most likely: not even asked."""
    somebody = Somebody()
    with pytest.raises(UsageError, match="is not the cluster's name"):
        consent(somebody, [], yes=True).confirmed(PLAN, given, "demo", "cost")
    assert not somebody.asked
