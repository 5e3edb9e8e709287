"""The simulation of people and thieves, in small: what its tables say holds (P11, P12)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from simulation.honest import month
from simulation.report import bars
from simulation.schedules import play
from simulation.thieves import ATTACKS, attacked
from strongroom import SessionPolicy

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]


def test_no_honest_schedule_is_called_theft() -> None:
    """Parallel tabs, lost responses, retries, crashes: nobody is called a thief (P11)."""
    verdicts = play(400, seed=7)
    assert (verdicts.called_thieves, verdicts.ended, verdicts.sign_ins_asked) == (0, 0, 0)
    # It did happen what is said to be harmless.
    assert min(verdicts.crashes, verdicts.lost, verdicts.retried, verdicts.renewals) > 100


def test_honest_people_are_signed_out_by_no_signal() -> None:
    """Commuters, travellers, VPNs, upgrades: told now and then, never signed out, never thieves."""
    told = month(seed=3, count=20, days=8)
    assert (told.signed_out, told.called_thieves) == (0, 0)
    assert told.requests > 1_000
    quiet = {"office", "browser upgrades", "shared computer", "corporate proxy"}
    assert all(told.asked[kind] <= 2 for kind in quiet)


def test_a_thief_on_the_stolen_cookie_is_found_within_a_renewal_interval() -> None:
    """Both go on using the session: after a renewal the copy is found before the next one (P12)."""
    outcome = attacked("malware on the same network", 25, breaks=False)
    assert outcome.rate == 1.0
    worst = outcome.worst_after_renewal
    assert worst is not None
    assert SessionPolicy().renew_after is not None
    assert worst <= 15 * 60 * 1000


@pytest.mark.parametrize(
    "name", ["stolen cookie, elsewhere", "stolen cookie, disguised, elsewhere"]
)
def test_a_cookie_used_from_elsewhere_is_noticed_and_does_nothing_sensitive(name: str) -> None:
    """Within minutes; what asks for a recent sign-in asks the thief, not the owner (P25)."""
    outcome = attacked(name, 8)
    assert outcome.rate == 1.0
    assert outcome.share_sensitive == 0.0


@pytest.mark.parametrize("name", ["fixation", "forged form"])
def test_what_must_not_work_does_not_work(name: str) -> None:
    """A planted session is worth nothing, and a form on another site changes nothing (P10, P19)."""
    outcome = attacked(name, 8)
    assert outcome.share_acting == outcome.share_sensitive == 0.0


def test_who_follows_every_renewal_is_not_found_and_that_is_said() -> None:
    """Nothing in a cookie tells him from his victim (D4): the pages say so, and this shows it."""
    assert attacked("silent follower", 3).rate == 0.0
    page = (ROOT / "docs" / "simulation.md").read_text("utf-8")
    assert "silent follower" in page


def test_the_command_prints_its_tables_and_draws_its_pictures(tmp_path: Path) -> None:
    """Small, from the command line, with every attack; the pictures are pictures."""
    command = [sys.executable, "-m", "simulation", "--people", "10", "--days", "2", "--times", "1"]
    command += ["--schedules", "5", "--plots", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert all(f"| {name} |" in done.stdout for name in ATTACKS)
    assert {path.name for path in tmp_path.iterdir()} == {"honest.svg", "attacks.svg"}
    for path in tmp_path.iterdir():
        assert ElementTree.parse(path).getroot().tag.endswith("svg")


def test_a_picture_without_values_is_no_error() -> None:
    """Nothing to show is shown as nothing."""
    ElementTree.fromstring(bars("Nothing", {}, "{}"))
    ElementTree.fromstring(bars("Zero & <tags>", {"a < b": 0.0}, "{:.0%}"))
