"""Pods as people and injectors write them, generated: plain data that a JSON encoder takes."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from kernelsecret.names import ATTRIBUTE_INTERCEPTOR, DRIVER_NAME
from tests.unit.webhook.builders import MOUNT_PATH, NAME, NAMESPACE

INJECT = "kernelsecret.io/inject"
ENGINES = ("iter", "rewrite", "tmpfs", "")
ZONES = ("a", "b")
_EFFECTS = ("NoSchedule", "NoExecute", "PreferNoSchedule")
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"

our_volumes = st.fixed_dictionaries(
    {
        "driver": st.just(DRIVER_NAME),
        "readOnly": st.just(True),
        "volumeAttributes": st.just({ATTRIBUTE_INTERCEPTOR: NAME}),
    }
)
other_volumes: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.just({"emptyDir": {}}),
    st.just({"secret": {"secretName": "x"}}),
    st.just({"csi": {"driver": "other.example.com"}}),
    st.just({"hostPath": {"path": "/srv"}}),
)
volumes = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["kernelsecret", "kernelsecret-2", "data", "a~b"]), other_volumes),
        st.tuples(st.sampled_from(["kernelsecret", "mine"]), st.builds(lambda csi: {"csi": csi}, our_volumes)),
    ),
    max_size=3,
    unique_by=lambda pair: pair[0],
).map(lambda pairs: [{"name": name, **kind} for name, kind in pairs])
paths = st.sampled_from([MOUNT_PATH, "/data", "/srv", "/var/run/secrets/other", "/srv/payments-db", "/var/run/secrets"])


def _mounts(names: list[str]) -> st.SearchStrategy[list[dict[str, Any]]]:
    if not names:
        return st.just([])
    one = st.fixed_dictionaries(
        {"name": st.sampled_from(names), "mountPath": paths},
        optional={"readOnly": st.booleans(), "subPath": st.just("username")},
    )
    return st.lists(one, max_size=2, unique_by=lambda mount: mount["mountPath"])


NAMES = ("app", "worker", "istio-proxy", "log~shipper", "init", "vault-agent-init")


@st.composite
def _containers(draw: st.DrawFn, volume_names: list[str]) -> tuple[list[Any], list[Any]]:
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True))
    made = []
    for name in names:
        container: dict[str, Any] = {"name": name, "image": "x:1", "env": [{"name": "A", "value": "b"}]}
        if draw(st.booleans()):
            container["volumeMounts"] = draw(_mounts(volume_names))
        made.append(container)
    split = draw(st.integers(0, len(made) - 1))
    for container in made[:split]:
        if draw(st.booleans()):
            container["restartPolicy"] = "Always"
    return made[:split], made[split:]


tolerations = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "key": st.sampled_from(["dedicated", "gpu", ""]),
            "operator": st.sampled_from(["Exists", "Equal", ""]),
            "value": st.sampled_from(["x", "y", ""]),
            "effect": st.sampled_from([*_EFFECTS[:2], ""]),
            "tolerationSeconds": st.just(300),
        },
    ),
    max_size=2,
)
taints = st.lists(
    st.builds(
        lambda key, value, effect: {"key": key, "value": value, "effect": effect},
        st.sampled_from(["dedicated", "gpu", "node.kubernetes.io/not-ready"]),
        st.sampled_from(["x", "y", ""]),
        st.sampled_from(_EFFECTS),
    ),
    max_size=2,
)
expressions = st.one_of(
    st.builds(
        lambda key, operator, values: {"key": key, "operator": operator, "values": values},
        st.sampled_from(["zone", "cpus"]),
        st.sampled_from(["In", "NotIn"]),
        st.lists(st.sampled_from(["a", "b", "8"]), min_size=1, max_size=2),
    ),
    st.builds(
        lambda key, operator: {"key": key, "operator": operator},
        st.sampled_from(["zone", "cpus"]),
        st.sampled_from(["Exists", "DoesNotExist"]),
    ),
    st.builds(
        lambda operator, bound: {"key": "cpus", "operator": operator, "values": [str(bound)]},
        st.sampled_from(["Gt", "Lt"]),
        st.integers(2, 16),
    ),
)
_fields = st.builds(
    lambda operator, name: [{"key": "metadata.name", "operator": operator, "values": [name]}],
    st.sampled_from(["In", "NotIn"]),
    st.sampled_from(["node-0", "node-1"]),
)
terms = st.fixed_dictionaries(
    {}, optional={"matchExpressions": st.lists(expressions, max_size=2), "matchFields": _fields}
)
affinities: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.just({}),
    st.just({"nodeAffinity": {}}),
    st.just({"podAntiAffinity": {}}),
    st.lists(terms, min_size=1, max_size=3).map(
        lambda made: {"nodeAffinity": {_REQUIRED: {"nodeSelectorTerms": made}, "preferred": []}}
    ),
)
scheduling = st.fixed_dictionaries(
    {},
    optional={
        "nodeSelector": st.dictionaries(st.just("zone"), st.sampled_from(ZONES), max_size=1),
        "tolerations": tolerations,
        "affinity": affinities,
    },
)
wishes = st.fixed_dictionaries(
    {},
    optional={
        "kernelsecret.io/mode": st.sampled_from(["auto", "ebpf", "ebpf", "preload"]),
        "kernelsecret.io/containers": st.lists(st.sampled_from(NAMES), min_size=1, max_size=2).map(", ".join),
        "kernelsecret.io/injected-containers": st.lists(st.sampled_from(NAMES), max_size=2).map(",".join),
        "kernelsecret.io/interceptor": st.sampled_from([NAME, "other"]),
        "other/annotation": st.text(max_size=5),
    },
)
hindrances: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
    [{"hostUsers": False}, {"os": {"name": "windows"}}, {"nodeName": "node-9"}, {"nodeName": "node-0"}]
)


@st.composite
def _metadata(draw: st.DrawFn) -> dict[str, Any]:
    made: dict[str, Any] = {"namespace": NAMESPACE}
    made |= draw(st.sampled_from([{"name": "api-0"}, {"generateName": "api-"}]))
    # The interceptor of these tests selects app=api.
    labels = draw(st.sampled_from([{"app": "api"}, {"app": "api", "a/b": "c"}, {"app": "api", "x": ""}, {}, None]))
    if labels is not None:
        made["labels"] = dict(labels)
    wanted = draw(st.sampled_from(["true", "true", NAME, NAME, "nothing", "false", None]))
    has_others: bool = draw(st.booleans())
    if wanted is not None or has_others:
        made["annotations"] = draw(wishes) if has_others else {}
        made["annotations"] |= {} if wanted is None else {INJECT: wanted}
    return made


@st.composite
def pods(draw: st.DrawFn) -> Any:
    """A pod that most likely asks for secrets, and may be one that cannot have them."""
    there: list[Any] | None = draw(st.one_of(st.none(), st.just([]), volumes))
    init, containers = draw(_containers([volume["name"] for volume in there or []]))
    spec: dict[str, Any] = {"containers": containers, **draw(scheduling)}
    has_init: bool = draw(st.booleans())
    if init or has_init:
        spec["initContainers"] = init
    if there is not None:
        spec["volumes"] = there
    if draw(st.integers(0, 5)) == 5:
        spec |= draw(hindrances)
    return {"apiVersion": "v1", "kind": "Pod", "metadata": draw(_metadata()), "spec": spec}


@st.composite
def nodes(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Nodes as plain data, to be read by what is tested and by what it is compared with."""
    count = draw(st.integers(0, 4))
    engines = draw(st.sampled_from([ENGINES, ENGINES[:2], ENGINES[:1]]))
    return [
        {
            "name": f"node-{number}",
            "engine": draw(st.sampled_from(engines)),
            "labels": draw(
                st.fixed_dictionaries(
                    {}, optional={"zone": st.sampled_from(ZONES), "cpus": st.sampled_from(["4", "8", "many"])}
                )
            ),
            "taints": draw(taints),
            "unschedulable": draw(st.sampled_from([False, False, True])),
        }
        for number in range(count)
    ]
