"""What kubelet asks is refused before anything is done, with the field named and no credential repeated."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from agent.csi import request as keys
from agent.csi.client import target_path_of
from agent.csi.request import publish_request, unpublish_request
from agent.csi.tokens import TOKENS_KEY
from agent.csi.wire import csi_pb2
from agent.model import PublishRequest, ShimRequest
from kernelsecret.errors import Code, Refused
from kernelsecret.names import ATTRIBUTE_INTERCEPTOR, ATTRIBUTE_SHIM
from tests.unit.csi.door import CANARY, POD, TOKENS, UID, VOLUME_ID, message, outcome

ROOT = Path("/var/lib/kubelet")
Publish = csi_pb2.NodePublishVolumeRequest
Mode = csi_pb2.VolumeCapability.AccessMode


def refusal(wanted: Publish) -> Refused:
    with pytest.raises(Refused) as caught:
        publish_request(wanted, ROOT)
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert CANARY not in str(caught.value)
    assert CANARY not in repr(caught.value)
    return caught.value


def secrets_asked(wanted: Publish) -> PublishRequest:
    taken = publish_request(wanted, ROOT)
    assert isinstance(taken, PublishRequest)
    return taken


def test_a_publish_as_kubelet_sends_it_is_taken() -> None:
    wanted = secrets_asked(message(ROOT))
    assert wanted.volume_id == VOLUME_ID
    assert wanted.target_path == target_path_of(ROOT, UID, "secrets")
    assert wanted.pod == POD
    assert wanted.interceptor == "shop-db"
    assert wanted.fs_group == 2000
    assert wanted.tokens == {"vault": CANARY}


def test_a_volume_of_the_shim_is_asked_for_by_its_attribute_alone_and_its_tokens_are_passed_over() -> None:
    wanted = message(ROOT)
    shim_only("true")(wanted)
    assert publish_request(wanted, ROOT) == ShimRequest(VOLUME_ID, target_path_of(ROOT, UID, "secrets"), POD)


def test_the_tokens_do_not_show_when_a_request_is_printed() -> None:
    assert CANARY not in repr(publish_request(message(ROOT), ROOT))


def test_fresh_tokens_of_the_same_account_are_no_difference() -> None:
    other = TOKENS.replace(CANARY, "fresh")
    assert publish_request(message(ROOT), ROOT) == publish_request(message(ROOT, tokens=other), ROOT)


def test_a_pod_without_fs_group_has_none() -> None:
    wanted = message(ROOT)
    wanted.volume_capability.mount.volume_mount_group = ""
    assert secrets_asked(wanted).fs_group is None


def test_an_unknown_key_of_kubelets_own_is_left_alone() -> None:
    wanted = message(ROOT)
    wanted.volume_context["csi.storage.k8s.io/something.new"] = "x"
    publish_request(wanted, ROOT)


def attribute(key: str, value: str) -> Callable[[Publish], None]:
    def change(wanted: Publish) -> None:
        wanted.volume_context[key] = value

    return change


def field(name: str, value: object) -> Callable[[Publish], None]:
    return lambda wanted: setattr(wanted, name, value)


def mode(value: int) -> Callable[[Publish], None]:
    return lambda wanted: setattr(wanted.volume_capability.access_mode, "mode", value)


def mount(name: str, value: str) -> Callable[[Publish], None]:
    return lambda wanted: setattr(wanted.volume_capability.mount, name, value)


def shim_only(text: str) -> Callable[[Publish], None]:
    def change(wanted: Publish) -> None:
        del wanted.volume_context[ATTRIBUTE_INTERCEPTOR]
        wanted.volume_context[ATTRIBUTE_SHIM] = text

    return change


WRONG: list[tuple[str, Callable[[Publish], None]]] = [
    ("volume_id", field("volume_id", "")),
    ("volume_id", field("volume_id", "a/b")),
    ("volume_id", field("volume_id", "..")),
    ("volume_id", field("volume_id", "csi-..-x")),
    ("volume_id", field("volume_id", "csi\0")),
    ("volume_id", field("volume_id", "csi-a\n")),
    ("volume_id", field("volume_id", "x" * 129)),
    ("target_path", field("target_path", "")),
    ("staging_target_path", field("staging_target_path", "/x")),
    ("publish_context", lambda wanted: wanted.publish_context.update({"a": "b"})),
    ("secrets", lambda wanted: wanted.secrets.update({"password": CANARY})),
    ("readonly", field("readonly", False)),
    ("volume_capability.mount", lambda wanted: wanted.ClearField("volume_capability")),
    ("volume_capability.block", lambda wanted: wanted.volume_capability.block.SetInParent()),
    ("volume_capability.access_mode.mode", mode(Mode.UNKNOWN)),
    ("volume_capability.access_mode.mode", mode(Mode.MULTI_NODE_READER_ONLY)),
    ("volume_capability.access_mode.mode", mode(99)),
    ("volume_capability.mount.fs_type", mount("fs_type", "ext4")),
    ("volume_capability.mount.mount_flags", lambda wanted: wanted.volume_capability.mount.mount_flags.append("suid")),
    *[
        ("volume_capability.mount.volume_mount_group", mount("volume_mount_group", text))
        for text in ("-1", "2147483648", "99999999999", "1e3", " 1", "1\n", "\u0661", "root")
    ],
    *[
        (f"volume_context[{key}]", attribute(key, ""))
        for key in (
            keys.POD_NAMESPACE,
            keys.POD_NAME,
            keys.POD_UID,
            keys.SERVICE_ACCOUNT,
            keys.EPHEMERAL,
            ATTRIBUTE_INTERCEPTOR,
        )
    ],
    (f"volume_context[{keys.EPHEMERAL}]", attribute(keys.EPHEMERAL, "false")),
    (f"volume_context[{keys.POD_NAMESPACE}]", attribute(keys.POD_NAMESPACE, "a/b")),
    (f"volume_context[{keys.POD_NAMESPACE}]", attribute(keys.POD_NAMESPACE, "a.b")),
    (f"volume_context[{keys.POD_NAME}]", attribute(keys.POD_NAME, "../x")),
    (f"volume_context[{keys.POD_NAME}]", attribute(keys.POD_NAME, "a" * 254)),
    (f"volume_context[{keys.POD_UID}]", attribute(keys.POD_UID, "..")),
    (f"volume_context[{keys.SERVICE_ACCOUNT}]", attribute(keys.SERVICE_ACCOUNT, "web\n")),
    (f"volume_context[{ATTRIBUTE_INTERCEPTOR}]", attribute(ATTRIBUTE_INTERCEPTOR, "Shop_DB")),
    (f"volume_context[{ATTRIBUTE_SHIM}]", attribute(ATTRIBUTE_SHIM, "true")),
    (f"volume_context[{ATTRIBUTE_SHIM}]", attribute(ATTRIBUTE_SHIM, "")),
    *[(f"volume_context[{ATTRIBUTE_SHIM}]", shim_only(text)) for text in ("", "True", "1", "yes", "/lib/evil.so")],
    ("volume_context['kernelsecret.io/interceptr']", attribute("kernelsecret.io/interceptr", "x")),
    ("volume_context['interceptor']", attribute("interceptor", "x")),
    (f"volume_context[{TOKENS_KEY}]", attribute(TOKENS_KEY, f'{{"vault": "{CANARY}"}}')),
    (f"volume_context[{TOKENS_KEY}]", lambda wanted: wanted.secrets.update({TOKENS_KEY: TOKENS})),
]


@pytest.mark.parametrize(("name", "change"), WRONG)
def test_what_is_wrong_is_refused_by_its_name(name: str, change: Callable[[Publish], None]) -> None:
    wanted = message(ROOT)
    change(wanted)
    assert refusal(wanted).field == name


POD_FOLDER = f"{ROOT}/pods/{UID}/volumes/kubernetes.io~csi"


@pytest.mark.parametrize(
    "path",
    [
        "mount",
        "/",
        f"{ROOT}",
        f"{POD_FOLDER}/secrets",
        f"{POD_FOLDER}/secrets/mount/",
        f"{POD_FOLDER}/secrets/mount/x",
        f"{POD_FOLDER}/secrets/./mount",
        f"{POD_FOLDER}//mount",
        f"{POD_FOLDER}/../mount",
        f"{POD_FOLDER}/x/../secrets/mount",
        f"{POD_FOLDER}/Secrets/mount",
        f"{POD_FOLDER}/secrets/mount\0",
        f"{POD_FOLDER}/secrets/mount\n",
        f"/{POD_FOLDER}/secrets/mount",
        f"{ROOT}/pods/another-pod/volumes/kubernetes.io~csi/secrets/mount",
        f"{ROOT}/pods/{UID}/volumes/kubernetes.io~secret/secrets/mount",
        f"{ROOT}/pods/../pods/{UID}/volumes/kubernetes.io~csi/secrets/mount",
        f"{ROOT}-evil/pods/{UID}/volumes/kubernetes.io~csi/secrets/mount",
        "/etc/passwd",
    ],
)
def test_a_target_path_that_kubelet_would_not_build_is_refused(path: str) -> None:
    wanted = message(ROOT)
    wanted.target_path = path
    assert refusal(wanted).field == "target_path"


@given(st.text())
def test_no_text_but_kubelets_own_is_a_target_path(tail: str) -> None:
    assume(tail != "/secrets/mount")
    wanted = csi_pb2.NodeUnpublishVolumeRequest(volume_id=VOLUME_ID)
    try:
        wanted.target_path = POD_FOLDER + tail
    except (UnicodeEncodeError, ValueError):
        return  # no message can carry it
    taken = outcome(lambda: unpublish_request(wanted, ROOT))
    if isinstance(taken, Refused):
        assert taken.field == "target_path"
    else:
        assert taken.target_path.parent.parent == Path(POD_FOLDER)
        assert ".." not in taken.target_path.parts


@given(
    st.dictionaries(
        st.sampled_from([keys.POD_NAME, keys.POD_UID, keys.EPHEMERAL, ATTRIBUTE_INTERCEPTOR, TOKENS_KEY, "x", "a/b"]),
        st.text(alphabet=st.characters(codec="utf-8")),
    ),
    st.text(alphabet=st.characters(codec="utf-8")),
    st.text(alphabet=st.characters(codec="utf-8")),
)
def test_whatever_comes_is_taken_or_refused_and_never_repeats_the_token(
    context: dict[str, str], volume_id: str, group: str
) -> None:
    wanted = message(ROOT)
    wanted.volume_context.update(context)
    wanted.volume_id = volume_id
    wanted.volume_capability.mount.volume_mount_group = group
    taken = outcome(lambda: publish_request(wanted, ROOT))
    assert CANARY not in repr(taken)
    if isinstance(taken, Refused):
        assert taken.code is Code.INVALID_ARGUMENT
        assert str(taken).isprintable()


def test_unpublish_takes_any_pods_path_and_refuses_others() -> None:
    wanted = csi_pb2.NodeUnpublishVolumeRequest(volume_id=VOLUME_ID, target_path=f"{POD_FOLDER}/secrets/mount")
    taken = unpublish_request(wanted, ROOT)
    assert (taken.volume_id, str(taken.target_path)) == (VOLUME_ID, wanted.target_path)
    wanted.target_path = "/etc"
    with pytest.raises(Refused, match="target_path"):
        unpublish_request(wanted, ROOT)


def test_kubelets_root_may_be_elsewhere() -> None:
    root = Path("/data/kubelet")
    assert publish_request(message(root), root).target_path.is_relative_to(root)
    with pytest.raises(Refused, match="target_path"):
        publish_request(message(root), ROOT)
