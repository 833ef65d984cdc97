"""What may be left by a power cut: each disk, and each disk that the operation makes."""

import pytest

from scenarios.crash.cases import Expected, Scene
from scenarios.crash.recovery import Wrong, judge
from scenarios.oracle import Content

OLD, NEW, OTHER = (Content(512, digit * 64) for digit in "abc")
#: A snapshot of `disk`, whose content does not change; `going` is deleted meanwhile.
SCENE = Scene(
    act=lambda: None,
    disks={"disk": Expected(frozenset({OLD, NEW})), "going": Expected(frozenset({OLD}), True)},
    settled={"disk": Expected(frozenset({NEW}))},
    newcomers=frozenset({NEW}),
    makes=1,
    pair=("snapshot", "disk"),
)


@pytest.mark.parametrize(
    ("found", "over"),
    [
        ({"disk": OLD, "going": OLD}, False),
        ({"disk": NEW}, False),
        ({"disk": NEW, "made": NEW}, False),
        ({"disk": NEW, "made": NEW}, True),
    ],
)
def test_what_may_be_left(found: dict[str, Content], over: bool) -> None:
    judge(found, SCENE, over=over)


@pytest.mark.parametrize(
    ("found", "over"),
    [
        ({"going": OLD}, False),  # a disk is lost
        ({"disk": OTHER}, False),
        ({"disk": NEW, "made": OLD}, False),
        ({"disk": NEW, "made": NEW, "twin": NEW}, False),
        ({"disk": NEW, "made": NEW, "twin": NEW}, True),
        ({"disk": NEW}, True),  # what it made is lost, although it had returned
        ({"disk": OLD, "made": NEW}, True),
        ({"disk": NEW, "going": OLD, "made": NEW}, True),
    ],
)
def test_what_may_not(found: dict[str, Content], over: bool) -> None:
    with pytest.raises(Wrong):
        judge(found, SCENE, over=over)
