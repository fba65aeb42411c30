"""Who is suspected of a worker's death, and who is not."""

from __future__ import annotations

import pytest

from pipelines.journal import NODES_LOST, JournalActor


@pytest.fixture
def here(ray_cluster: None) -> str:
    """The id of a node that is there."""
    import ray

    return str(ray.get_runtime_context().get_node_id())


def test_what_was_in_hand_when_a_worker_died_is_suspected(here: str) -> None:
    journal = JournalActor()
    assert [journal.begin("page", here) for _ in range(3)] == [0, 1, 2]
    journal.end("page")
    assert journal.begin("page", here) == 0


def test_what_was_in_hand_on_a_machine_that_went_is_not(here: str) -> None:
    journal = JournalActor()
    assert journal.begin("page", "a spot instance") == 0
    assert journal.begin("page", here) == 0
    # The second worker's machine is still there, so it did die of something.
    assert journal.begin("page", here) == 1


def test_what_takes_machine_after_machine_down_is(here: str) -> None:
    journal = JournalActor()
    died = [journal.begin("page", f"node {number}") for number in range(NODES_LOST + 2)]
    assert died == [0] * (NODES_LOST + 1) + [1]
