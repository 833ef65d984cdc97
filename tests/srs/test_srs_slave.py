"""What a host asks its pool's master for."""

import pytest

from srs import slave
from srs.errors import SRUnavailable
from srs.session import Session


class _Appointed(Session):
    """A session on a host that is the master by now."""

    def call(self, method: str, *params: object) -> object:
        return {"pool.get_all": ["pool"], "pool.get_master": "here"}[method]


def test_a_slave_that_was_appointed_does_not_ask_itself() -> None:
    """It would see its own lock, or wait for it."""
    with pytest.raises(SRUnavailable, match="become the master"):
        slave.ask_master(_Appointed("session", host="here"), "sr-master", "is_working", {})
