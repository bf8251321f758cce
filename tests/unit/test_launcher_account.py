"""What of the machine is free, whatever is taken and given back in whatever order."""

from __future__ import annotations

import socket

from hypothesis import given
from hypothesis import strategies as st

from retz.engine.base import Assignment
from retz.engine.local import ports as ports_module
from retz.engine.local.account import Account
from retz.engine.local.ports import PortPool, is_free
from retz.model.resources import Resources

TOTAL = Resources(cpus=4.0, mem=1000, disk=100, gpus=3, ports=10)
GPUS = ("a", "b", "c")
NEEDS = st.builds(
    Resources,
    cpus=st.integers(0, 5000).map(lambda milli: milli / 1000),
    mem=st.integers(0, 1200),
    gpus=st.integers(0, 4),
    ports=st.integers(0, 4),
)


@given(st.lists(st.tuples(st.integers(0, 5), NEEDS), max_size=30))
def test_nothing_is_handed_out_twice_and_everything_comes_back(steps: list[tuple[int, Resources]]) -> None:
    account = Account(TOTAL.vector, GPUS, PortPool(40_000, 40_010))
    held: dict[str, tuple[Resources, Assignment]] = {}
    for number, need in steps:
        task = f"{number}.1"
        if task in held:
            account.give_back(task)
            account.give_back(task)
            del held[task]
            continue
        chosen = account.assign("o", need, Assignment())
        account.unpromise(["o"])
        if chosen is not None and account.take(task, need.vector, chosen):
            held[task] = need, chosen
        gpus = [uuid for _, assignment in held.values() for uuid in assignment.gpus]
        numbers = [port for _, assignment in held.values() for port in assignment.ports]
        assert len(set(gpus)) == len(gpus) and len(set(numbers)) == len(numbers)
        assert sum(need.vector[0] for need, _ in held.values()) + account.free[0] == TOTAL.vector[0]
    for task in held:
        account.give_back(task)
    assert account.free == TOTAL.vector
    everything = account.assign("o", Resources(gpus=3), Assignment())
    assert everything is not None and everything.gpus == GPUS


def test_adopted_tasks_may_hold_more_than_there_is() -> None:
    account = Account(TOTAL.vector, GPUS, PortPool(40_000, 40_010))
    big = Resources(cpus=6.0, mem=10)
    assert account.take("1.1", big.vector, Assignment(gpus=("gone",)), force=True)
    assert account.free[0] == -2000
    account.give_back("1.1")
    assert account.free == TOTAL.vector


def test_what_is_promised_to_one_offer_is_not_given_to_another() -> None:
    account = Account(TOTAL.vector, GPUS, PortPool(40_000, 40_010))
    need = Resources(gpus=2, ports=2)
    first = account.assign("a", need, Assignment())
    assert first is not None
    assert account.assign("b", need, Assignment()) is None
    second = account.assign("b", Resources(gpus=1, ports=2), Assignment())
    assert second is not None and second.gpus == ("c",) and not set(second.ports) & set(first.ports)
    account.unpromise(["a", "none"])
    again = account.assign("c", need, Assignment())
    assert again is not None and again.gpus == ("a", "b")


def test_ports_rest_after_use() -> None:
    pool = PortPool(40_000, 40_100)
    first = pool.choose(2, frozenset())
    second = pool.choose(2, frozenset())
    assert first is not None and second is not None and not set(first) & set(second)


def test_a_port_in_use_is_not_free() -> None:
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::1")):
        try:
            listener = socket.socket(family)
            listener.bind((address, 0))
        except OSError:
            continue  # no IPv6 here
        with listener:
            listener.listen()
            assert not is_free(listener.getsockname()[1])


def test_too_few_ports_is_none() -> None:
    pool = PortPool(40_000, 40_003)
    assert pool.choose(4, frozenset()) is None
    assert pool.choose(3, frozenset({40_001})) is None
    assert ports_module.PortPool(40_000, 40_000).choose(1, frozenset()) is None
