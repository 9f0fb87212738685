"""Published, rotated and ended in whatever order: every file shows its current value, and each is stored once."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.kernel.layout import Limit
from agent.kernel.programs import Tuning
from agent.model import SecretRef
from tests.kernel.conftest import Open
from tests.kernel.harness.family import Actor
from tests.kernel.harness.node import Node, Volume, ref
from tests.kernel.harness.pods import Pod
from tests.kernel.harness.values import pattern

NAMES, KEYS = ("a", "b"), ("x", "y", "z")
SIZES = (0, 5, Limit.CHUNK_BYTES, 3 * Limit.CHUNK_BYTES + 1, 40_000)
VALUES = st.builds(pattern, st.sampled_from(SIZES), st.integers(1, 3))
STEPS = st.one_of(
    st.tuples(
        st.just("publish"),
        st.sampled_from(NAMES),
        st.dictionaries(st.sampled_from(KEYS), VALUES, min_size=1),
    ),
    st.tuples(st.just("rotate"), st.sampled_from(NAMES), st.dictionaries(st.sampled_from(KEYS), VALUES, min_size=1)),
    st.tuples(st.just("end"), st.integers(0, 5), st.none()),
    st.tuples(st.just("retire"), st.none(), st.none()),
)


@dataclass
class Model:
    """What should be: the current values of every secret that is shown."""

    node: Node
    pod: Pod
    reader: Actor
    current: dict[SecretRef, dict[str, bytes]] = field(default_factory=dict)

    def take(self, what: str, which: str | int | None, values: dict[str, bytes] | None) -> None:
        if what == "publish" and isinstance(which, str) and values:
            self.node.publish(self.pod, {which: values})
            known = self.current.setdefault(ref(which), {})
            self.current[ref(which)] = {**values, **known}
        elif what == "rotate" and isinstance(which, str) and values:
            if ref(which) in self.current:
                taken = {key: value for key, value in values.items() if key in self.current[ref(which)]}
                self.node.rotate(which, **taken)
                self.current[ref(which)].update(taken)
        elif what == "end" and isinstance(which, int):
            if self.node.volumes:
                self.node.end(self.node.volumes[which % len(self.node.volumes)])
            self.forget()
        elif what == "retire":
            self.node.retire()

    def forget(self) -> None:
        """What no volume shows is nobody's."""
        shown = {(file.ref, file.key) for volume in self.node.volumes for file in volume.state.plan.files}
        self.current = {
            name: {key: value for key, value in values.items() if (name, key) in shown}
            for name, values in self.current.items()
            if name in {file_ref for file_ref, _ in shown}
        }

    def check(self) -> None:
        for volume in self.node.volumes:
            self.check_volume(volume)

    def check_volume(self, volume: Volume) -> None:
        for file in volume.state.plan.files:
            expected = self.current[file.ref][file.key]
            found = self.reader.read(str(volume.target / file.name))
            assert (found.errno, found.data == expected) == (0, True), (file, len(found.data), len(expected))
            assert (volume.target / file.name).stat().st_size == len(expected)

    def check_store(self) -> None:
        """With nothing left of earlier versions, each value that is shown is stored once, and nothing else is."""
        self.node.retire()
        values = {value for shown in self.current.values() for value in shown.values()}
        assert self.node.chunks() == sum(-(-len(value) // Limit.CHUNK_BYTES) for value in values)
        assert len(list(self.node.kernel.maps.versions())) == sum(len(shown) for shown in self.current.values())
        assert self.node.kernel.maps.sets.used == len(self.current)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEPS, max_size=12))
def test_every_order_of_publish_rotate_and_end_shows_the_current_values(
    open_node: Open, steps: list[tuple[str, str | int | None, dict[str, bytes] | None]]
) -> None:
    node, pod, reader = the_node(open_node)
    model = Model(node, pod, reader)
    try:
        for step in steps:
            model.take(*step)
            model.check()
        model.check_store()
    finally:
        for volume in list(node.volumes):
            node.end(volume)
    assert (node.chunks(), list(node.kernel.maps.versions()), node.kernel.maps.files()) == (0, [], [])
    assert (node.kernel.maps.sets.used, node.kernel.maps.grants.used) == (0, 0)


opened: list[tuple[Open, Node, Pod, Actor]] = []


def the_node(open_node: Open) -> tuple[Node, Pod, Actor]:
    """One node for all examples of a test; its reader keeps no round, so that it sees what is current."""
    if not opened or opened[-1][0] is not open_node:
        node = open_node(Tuning(grace_ns=1))
        pod = node.pod()
        opened[:] = [(open_node, node, pod, node.process(cgroup=pod.cgroup_of("app")))]
    return opened[-1][1:]
