"""Mode `preload`: the shim's volume, mounts and environment of each container, and all that its author wrote before."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelsecret.names import ATTRIBUTE_INTERCEPTOR, ATTRIBUTE_SHIM, DRIVER_NAME, SHIM_FILE, SHIM_ROOT
from kernelsecret.problems import quoted
from tests.unit.contract.builders import MISSING
from tests.unit.webhook import strategies
from tests.unit.webhook.builders import (
    MOUNT_PATH,
    NAME,
    TOKEN_MOUNT,
    body,
    interceptor,
    mutated,
    mutation_refusal,
    operations,
    pod,
    refusal,
    response,
    validation,
    view,
)
from webhook.admission.answer import Outcome
from webhook.admission.mutate import mutate
from webhook.policy.view import FixedView

SHIM = f"{SHIM_ROOT}/{SHIM_FILE}"
PATHS = "KERNELSECRET_SHIM_PATHS"
OWN = "KERNELSECRET_OWN_LD_PRELOAD"
ELSEWHERE = {"configMapKeyRef": {"name": "tools", "key": "preload"}}
CSI = {"driver": DRIVER_NAME, "readOnly": True}
SECRETS = {"name": "kernelsecret", "csi": {**CSI, "volumeAttributes": {ATTRIBUTE_INTERCEPTOR: NAME}}}
SHIM_VOLUME = {"name": "kernelsecret-shim", "csi": {**CSI, "volumeAttributes": {ATTRIBUTE_SHIM: "true"}}}
SHIM_MOUNT = {"name": "kernelsecret-shim", "mountPath": SHIM_ROOT, "readOnly": True}
SECRETS_MOUNT = {"name": "kernelsecret", "mountPath": MOUNT_PATH, "readOnly": True}


def seen(*prefixes: str) -> FixedView:
    delivery = {"modes": ["preload"], **({"preload": {"prefixes": list(prefixes)}} if prefixes else {})}
    return view(interceptor(delivery=delivery, access={"unenforced": "allow"}))


def container(name: str = "app", *mounts: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": name, "image": "x:1", "volumeMounts": [TOKEN_MOUNT, *mounts], **more}


def made(env: Any = MISSING, *mounts: dict[str, Any], prefixes: tuple[str, ...] = (), **more: Any) -> Any:
    """The only container of a pod after `/mutate`, which has nothing to add, and `/validate` nothing against it."""
    given = {"env": env} if env is not MISSING else {}
    thing = mutated(pod(containers=[container("app", *mounts, **given, **more)]), seen(*prefixes))
    assert operations(mutate(body(thing), seen(*prefixes))) == []
    checked = validation(thing, seen(*prefixes))
    assert checked.outcome is Outcome.ALLOWED, checked.message
    return thing["spec"]["containers"][0]


def variables(one: Any) -> dict[str, Any]:
    return {each["name"]: each.get("value", each.get("valueFrom")) for each in one["env"]}


def test_the_pod_gets_both_volumes_and_each_container_both_mounts_and_both_variables() -> None:
    thing = mutated(pod(containers=[container(), container("log")], initContainers=[container("init")]), seen())
    assert thing["spec"]["volumes"][-2:] == [SECRETS, SHIM_VOLUME]
    for one in (*thing["spec"]["containers"], *thing["spec"]["initContainers"]):
        assert one["volumeMounts"] == [TOKEN_MOUNT, SECRETS_MOUNT, SHIM_MOUNT]
        assert variables(one) == {"LD_PRELOAD": SHIM, PATHS: MOUNT_PATH}
    assert thing["metadata"]["annotations"]["kernelsecret.io/chosen-mode"] == "preload"


@pytest.mark.parametrize("empty", [MISSING, None, []])
def test_an_environment_may_be_missing_null_or_empty(empty: Any) -> None:
    assert variables(made(empty)) == {"LD_PRELOAD": SHIM, PATHS: MOUNT_PATH}


@pytest.mark.parametrize(
    ("own", "wanted"),
    [
        ("", SHIM),
        ("/a.so", f"{SHIM}:/a.so"),
        ("/a.so:/b.so", f"{SHIM}:/a.so:/b.so"),
        ("/a.so /b.so", f"{SHIM}:/a.so /b.so"),
        ("$(DIR)/a.so", f"{SHIM}:$(DIR)/a.so"),
        (SHIM, SHIM),
        (f"{SHIM}:/a.so", f"{SHIM}:/a.so"),
        (f"{SHIM} /a.so", f"{SHIM} /a.so"),
        (f"/a.so:{SHIM}", f"{SHIM}:/a.so"),
        (f"/a.so {SHIM}:/b.so", f"{SHIM}:/a.so:/b.so"),
    ],
)
def test_what_the_author_preloads_stays_behind_the_shim_and_the_shim_is_there_once(own: str, wanted: str) -> None:
    before = [{"name": "A", "value": "a"}, {"name": "LD_PRELOAD", "value": own}, {"name": "B", "value": "b"}]
    one = made(before)
    assert variables(one) == {"A": "a", "LD_PRELOAD": wanted, "B": "b", PATHS: MOUNT_PATH}
    assert [each["name"] for each in one["env"]] == ["A", "LD_PRELOAD", "B", PATHS]


def test_a_variable_without_a_value_is_an_empty_one() -> None:
    assert variables(made([{"name": "LD_PRELOAD"}]))["LD_PRELOAD"] == SHIM


def test_a_value_from_elsewhere_keeps_its_place_under_another_name_and_follows_the_shim() -> None:
    before = [{"name": "A", "value": "a"}, {"name": "LD_PRELOAD", "valueFrom": ELSEWHERE}, {"name": "B", "value": "b"}]
    one = made(before)
    assert [each["name"] for each in one["env"]] == ["A", OWN, "LD_PRELOAD", "B", PATHS]
    assert variables(one)[OWN] == ELSEWHERE
    assert variables(one)["LD_PRELOAD"] == f"{SHIM}:$({OWN})"


@pytest.mark.parametrize("kind", ["configMapKeyRef", "secretKeyRef"])
def test_a_value_that_may_be_missing_is_refused_with_what_mends_it(kind: str) -> None:
    env = [{"name": "LD_PRELOAD", "valueFrom": {kind: {"name": "x", "key": "y", "optional": True}}}]
    rule, message = mutation_refusal(pod(containers=[container(env=env)]), seen())
    assert rule == "environment"
    assert "spec.containers[0].env[0].valueFrom: it may be missing (optional: true)" in message
    assert "remove `optional`" in message


@pytest.mark.parametrize("source", [{"fieldRef": {"fieldPath": "metadata.name"}}, ELSEWHERE])
def test_other_sources_of_the_value_are_taken(source: Any) -> None:
    assert variables(made([{"name": "LD_PRELOAD", "valueFrom": source}]))[OWN] == source


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ([{"name": PATHS, "value": "/mine"}], f"env[0]: {PATHS} is written by admission alone"),
        ([{"name": PATHS, "valueFrom": ELSEWHERE}], f"env[0]: {PATHS} is written by admission alone"),
        ([{"name": OWN, "value": "x"}], f"env[0]: {OWN} is written by admission alone"),
        ([{"name": OWN, "value": "x"}, {"name": "LD_PRELOAD", "valueFrom": ELSEWHERE}], f"{OWN} is written by"),
        ([{"name": "LD_PRELOAD", "value": "a"}] * 2, "env[1]: LD_PRELOAD is there twice"),
        ({"LD_PRELOAD": "x"}, "spec.containers[0].env: is not what a container has there"),
        (["LD_PRELOAD"], "look at its types"),
        ([{"name": "LD_PRELOAD", "value": 5}], "look at its types"),
        ([{"name": "LD_PRELOAD", "valueFrom": {"configMapKeyRef": "x"}}], "look at its types"),
    ],
)
def test_an_environment_that_cannot_be_meant_is_refused(env: Any, words: str) -> None:
    rule, message = mutation_refusal(pod(containers=[container(env=env)]), seen())
    assert rule == "environment"
    assert words in message


def test_an_environment_that_makes_no_sense_is_nobodys_business_in_other_modes() -> None:
    assert mutate(body(pod(containers=[container(env={"x": 1}, envFrom=5)])), view()).outcome is Outcome.INJECTED


def test_variables_from_objects_that_are_not_looked_into_are_told_of() -> None:
    thing = pod(containers=[container(envFrom=[{"configMapRef": {"name": "x"}}]), container("log", envFrom=[])])
    said = response(mutate(body(thing), seen()))
    assert said["allowed"]
    [warning] = said["warnings"]
    assert "spec.containers[0].envFrom is not looked into: an LD_PRELOAD that it gives is replaced by ours" in warning
    assert mutation_refusal(pod(containers=[container(envFrom=5)]), seen())[0] == "environment"


def test_single_files_and_folders_of_the_volume_are_led_to_where_they_rotate() -> None:
    mounts = [
        {"name": "kernelsecret", "mountPath": "/etc/db//password/", "subPath": "password"},
        {"name": "kernelsecret", "mountPath": "/etc/tls", "subPath": "tls/"},
    ]
    one = made(MISSING, *mounts)
    assert variables(one)[PATHS] == f"{MOUNT_PATH}:/etc/db/password={MOUNT_PATH}/password:/etc/tls={MOUNT_PATH}/tls"
    assert SECRETS_MOUNT in one["volumeMounts"]
    thing = pod(containers=[container("app", *mounts)])
    assert "warnings" not in response(mutate(body(thing), seen()))


def test_the_volume_where_its_author_mounts_it_is_the_live_one() -> None:
    one = made(
        MISSING,
        {"name": "kernelsecret", "mountPath": "/srv/a/"},
        {"name": "kernelsecret", "mountPath": "/srv/b"},
        {"name": "kernelsecret", "mountPath": "/srv/c", "subPath": "x"},
        prefixes=("/etc/app", "/srv/b"),
    )
    assert variables(one)[PATHS] == "/srv/a:/srv/b:/srv/c=/srv/a/x:/etc/app=/srv/a"
    assert SECRETS_MOUNT not in one["volumeMounts"]


@pytest.mark.parametrize(
    "mount",
    [
        {"mountPath": "/etc/a", "subPathExpr": "$(WHICH)"},
        {"mountPath": "/etc/a=b", "subPath": "x"},
        {"mountPath": "/etc/a", "subPath": "x=y"},
        {"mountPath": "etc/a", "subPath": "x"},
        {"mountPath": "/etc/../a", "subPath": "x"},
        {"mountPath": "/etc/a", "subPath": "../x"},
        {"mountPath": "/etc/a", "subPath": "."},
        {"mountPath": "/" + "a" * 500, "subPath": "x"},
    ],
)
def test_what_the_shim_cannot_follow_is_mounted_with_a_warning(mount: dict[str, str]) -> None:
    thing = pod(containers=[container("app", {"name": "kernelsecret", **mount})])
    said = response(mutate(body(thing), seen()))
    assert said["allowed"]
    assert "by subPath in a way that the shim cannot follow, so it never sees a rotation" in said["warnings"][0]


@pytest.mark.parametrize("count", [39, 40])
def test_more_mounts_than_the_shim_has_room_for_are_refused(count: int) -> None:
    mounts = [
        {"name": "kernelsecret", "mountPath": f"/etc/{number}", "subPath": str(number)} for number in range(count)
    ]
    thing = pod(containers=[container("app", *mounts)])
    if count < 40:
        assert variables(mutated(thing, seen())["spec"]["containers"][0])[PATHS].count("=") == count
        return
    rule, message = mutation_refusal(thing, seen())
    assert rule == "mount"
    assert "spec.containers[0].volumeMounts: 41 mounts and prefixes" in message
    assert "mount the whole volume" in message
    long = [{**one, "mountPath": f"/etc/{'x' * 450}{number}"} for number, one in enumerate(mounts[:36])]
    assert mutation_refusal(pod(containers=[container("app", *long)]), seen())[0] == "mount"


@pytest.mark.parametrize("path", ["/srv/a=b", "srv", "/srv/../a", "", "/" + "a" * 500])
def test_a_volume_that_is_whole_where_the_shim_cannot_follow_it_is_refused(path: str) -> None:
    thing = pod(containers=[container("app", {"name": "kernelsecret", "mountPath": path})])
    rule, message = mutation_refusal(thing, seen())
    assert rule == "mount"
    assert f"{quoted(path)} is no path that mode `preload` can follow" in message


def test_names_that_others_have_are_left_to_them() -> None:
    taken = [{"name": "kernelsecret-shim", "emptyDir": {}}]
    thing = mutated(pod(volumes=taken), seen())
    assert thing["spec"]["volumes"][-1] == {**SHIM_VOLUME, "name": "kernelsecret-shim-2"}
    assert {**SHIM_MOUNT, "name": "kernelsecret-shim-2"} in thing["spec"]["containers"][0]["volumeMounts"]


def test_a_shim_that_the_author_wrote_is_used_where_the_agent_would_serve_it() -> None:
    mine = {**SHIM_VOLUME, "name": "mine"}
    thing = mutated(pod(volumes=[mine]), seen())
    assert thing["spec"]["volumes"] == [mine, SECRETS]
    for wrong, words in (
        ({"volumeAttributes": {ATTRIBUTE_SHIM: "yes"}}, "is 'yes', must be 'true'"),
        ({"volumeAttributes": {ATTRIBUTE_SHIM: "true", ATTRIBUTE_INTERCEPTOR: NAME}}, "no attribute of this driver"),
        ({"readOnly": False, "volumeAttributes": {ATTRIBUTE_SHIM: "true"}}, "the volume is read-only"),
    ):
        rule, message = mutation_refusal(pod(volumes=[{"name": "mine", "csi": {**CSI, **wrong}}]), seen())
        assert rule == "volume"
        assert words in message


def test_the_shim_is_for_pods_in_its_mode() -> None:
    rule, message = mutation_refusal(pod(volumes=[SHIM_VOLUME]))
    assert rule == "volume"
    assert "the shim is for pods in mode `preload`, and this one is in mode `ebpf`" in message
    assert refusal(validation(pod({}, volumes=[SHIM_VOLUME])))[0] == "driver"


def test_something_else_where_the_shim_belongs_is_refused() -> None:
    thing = pod(
        volumes=[{"name": "data", "emptyDir": {}}],
        containers=[container("app", {"name": "data", "mountPath": f"/run/secrets/{SHIM_ROOT.split('/', 4)[4]}/x"})],
    )
    rule, message = mutation_refusal(thing, seen())
    assert rule == "mount"
    assert "is where the shim is mounted" in message


def undone(path: str, value: Any) -> Any:
    """The injected pod with one thing of its container changed."""
    thing = copy.deepcopy(mutated(pod(), seen()))
    thing["spec"]["containers"][0][path] = value
    return thing


@pytest.mark.parametrize(
    ("thing", "field"),
    [
        (undone("env", []), "spec.containers[0].env"),
        (undone("env", [{"name": "LD_PRELOAD", "value": SHIM}]), "spec.containers[0].env"),
        (
            undone("env", [{"name": "LD_PRELOAD", "value": "/other.so"}, {"name": PATHS, "value": MOUNT_PATH}]),
            "spec.containers[0].env[0].value",
        ),
        (
            undone("env", [{"name": "LD_PRELOAD", "value": SHIM}, {"name": PATHS, "value": "/x"}]),
            "spec.containers[0].env[1].value",
        ),
        (undone("volumeMounts", [SECRETS_MOUNT]), "spec.containers[0].volumeMounts"),
    ],
)
def test_what_another_webhook_undoes_is_refused_and_mended_by_a_second_call(thing: Any, field: str) -> None:
    rule, message = refusal(validation(thing, seen()))
    assert rule == "injected"
    assert f"{field}: what mode `preload` needs there is missing or was changed" in message
    again = variables(mutated(thing, seen())["spec"]["containers"][0])
    assert again[PATHS] == MOUNT_PATH
    assert again["LD_PRELOAD"].split(":")[0] == SHIM


def test_the_mode_that_was_chosen_stays_when_nodes_come_and_go() -> None:
    modes = {"modes": ["ebpf", "preload"]}
    chosen = view(interceptor(delivery=modes, access={"unenforced": "allow"}))
    thing = mutated(pod({"kernelsecret.io/inject": "true", "kernelsecret.io/mode": "preload"}), chosen)
    assert operations(mutate(body(thing), chosen)) == []
    later = copy.deepcopy(thing)
    later["metadata"]["annotations"]["kernelsecret.io/mode"] = "auto"
    assert operations(mutate(body(later), chosen)) == []
    assert validation(later, chosen).outcome is Outcome.ALLOWED


_VALUES = st.sampled_from(["", "/a.so", f"/a.so:{SHIM}", SHIM, f"{SHIM} /b.so", "$(A)"])
_SOURCES = st.sampled_from([ELSEWHERE, {"fieldRef": {"fieldPath": "metadata.name"}}])
_ENV = st.lists(
    st.one_of(
        st.builds(lambda name, value: {"name": name, "value": value}, st.sampled_from(["A", "LD_PRELOAD"]), _VALUES),
        st.builds(lambda source: {"name": "LD_PRELOAD", "valueFrom": source}, _SOURCES),
    ),
    max_size=4,
)


@given(strategies.pods(), st.lists(_ENV, min_size=4, max_size=4))
def test_a_second_call_changes_nothing_and_nothing_else_was_changed(thing: Any, environments: list[Any]) -> None:
    every = [*thing["spec"].get("initContainers", []), *thing["spec"]["containers"]]
    for one, env in zip(every, environments, strict=False):
        one["env"] = env
    answer = mutate(body(thing), seen("/etc/app"))
    if answer.outcome is not Outcome.INJECTED:
        return
    after = mutated(thing, seen("/etc/app"))
    assert operations(mutate(body(after), seen("/etc/app"))) == []
    checked = validation(after, seen("/etc/app"))
    assert checked.outcome is Outcome.ALLOWED, checked.message
    for kind in ("initContainers", "containers"):
        for one, other in zip(after["spec"].get(kind, []), thing["spec"].get(kind, []), strict=True):
            # The author's variables are all there, in their order; the only one of another value is LD_PRELOAD.
            kept = [each for each in one.get("env", []) if each["name"] not in (PATHS, "LD_PRELOAD", OWN)]
            assert kept == [each for each in other["env"] if each["name"] != "LD_PRELOAD"]
            rest = {key: value for key, value in one.items() if key not in ("env", "volumeMounts")}
            assert rest == {key: value for key, value in other.items() if key not in ("env", "volumeMounts")}
