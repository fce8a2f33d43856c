"""When a service notices that a disk is nearly full."""

from stockworker.shell.space_watch import SpaceWatch
from stockworker.shell.turn import DiskChanged


def test_only_changes_are_reported() -> None:
    free = iter([100, 100, 99, 0, 100])
    watch = SpaceWatch(lambda: next(free), 100)
    assert [watch.look(now) for now in (0.0, 1.0, 2.0, 3.0, 4.0)] == [
        [],
        [],
        [DiskChanged(full=True)],
        [],
        [DiskChanged(full=False)],
    ]


def test_a_disk_that_is_full_at_the_start_is_reported() -> None:
    assert SpaceWatch(lambda: 0, 1).look(0.0) == [DiskChanged(full=True)]


def test_the_disk_is_asked_once_a_second() -> None:
    asked = []

    def free_bytes() -> int:
        asked.append(1)
        return 5

    watch = SpaceWatch(free_bytes, 1)
    for tenth in range(25):
        watch.look(tenth / 10)
    assert len(asked) == 3


def test_an_exhausted_disk_is_more_than_a_full_one() -> None:
    free = iter([9, 99, 100, 9])
    watch = SpaceWatch(lambda: next(free), 100, 10)
    assert [watch.look(now) for now in (0.0, 1.0, 2.0, 3.0)] == [
        [DiskChanged(full=True, exhausted=True)],
        [DiskChanged(full=True)],
        [DiskChanged(full=False)],
        [DiskChanged(full=True, exhausted=True)],
    ]
