"""`kernelsecret-ctl explain`: from a folder, for a manifest, and from an API server over real HTTP."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from apiclient.connection import Connection
from apiclient.errors import ApiError
from kernelsecret.cli import explain_command
from kernelsecret.cli.explain_sources import PAGE, connection_of, from_cluster
from kernelsecret.cli.failures import CommandError, Exit
from kernelsecret.cli.main import app
from tests.unit.apiclient.fake_server import FakeApiServer, Fault, serving
from tests.unit.contract.builders import EXAMPLES, example
from tests.unit.webhook.builders import NAMESPACE, OPTED_IN, mutated, pod
from webhook.policy.explanation import explain

EXAMPLE = ("--offline", str(EXAMPLES), "-n", "payments")


def ctl(*words: str, **more: Any) -> Result:
    return CliRunner().invoke(app, ["explain", *words], **more)


def explained(*words: str, **more: Any) -> list[dict[str, Any]]:
    """What programs read: a line for each pod."""
    return [json.loads(line) for line in ctl(*words, "-o", "json", **more).stdout.splitlines()]


def usage_error(*words: str, **more: Any) -> str:
    failed = ctl(*words, **more).exception
    assert isinstance(failed, CommandError)
    assert failed.status is Exit.USAGE
    return str(failed)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The example, to be changed."""
    return Path(shutil.copytree(EXAMPLES, tmp_path / "cluster"))


def manifest(tmp_path: Path, *things: Any) -> str:
    path = tmp_path / "manifest.yaml"
    path.write_text("\n---\n".join(json.dumps(thing) for thing in things))
    return str(path)


def deployment(template: Any, kind: str = "Deployment") -> Any:
    inner = {"metadata": template["metadata"], "spec": template["spec"]}
    spec: Any = {"template": inner}
    if kind == "CronJob":
        spec = {"jobTemplate": {"spec": spec}}
    return {"apiVersion": "x/v1", "kind": kind, "metadata": {"name": "api", "namespace": NAMESPACE}, "spec": spec}


def test_the_example_is_explained_for_people() -> None:
    shown = ctl(*EXAMPLE, "api-0")
    assert shown.exit_code == Exit.OK
    assert "payments/api-0 (if it were created now)" in shown.output
    assert "admission    is given secrets" in shown.output
    for words in ("interceptor  payments-db", "mode         ebpf", "containers   api", "serves by `iter`"):
        assert words in shown.output


def test_the_example_is_explained_for_programs() -> None:
    (one,) = explained(*EXAMPLE, "api-0")
    assert one["outcome"] == "injected"
    assert (one["optedIn"], one["live"], one["interceptor"], one["mode"]) == (True, False, "payments-db", "ebpf")
    assert (one["containers"], one["mountPath"]) == (["api"], "/var/run/secrets/payments-db")
    assert [rule["rule"] for rule in one["rules"]][:3] == ["opt-in", "namespace", "interceptor"]
    assert (one["refusals"], one["differences"]) == ([], [])


def test_a_refusal_has_rule_field_reason_and_remedy_and_status_1(folder: Path) -> None:
    (folder / "namespaces" / "payments.yaml").write_text("{kind: Namespace, metadata: {name: payments}}")
    words = ("--offline", str(folder), "-n", "payments", "api-0")
    shown = ctl(*words)
    assert shown.exit_code == Exit.WRONG
    assert "admission    REFUSED" in shown.output
    (one,) = explained(*words)
    assert one["outcome"] == "refused"
    (refusal,) = one["refusals"]
    assert refusal["rule"] == "namespace"
    assert refusal["field"] == "namespace.metadata.labels[kernelsecret.io/inject]"
    assert refusal["fix"].startswith("kubectl label namespace payments kernelsecret.io/inject=enabled")


def test_a_pod_that_does_not_ask_is_fine(tmp_path: Path) -> None:
    (one,) = explained(*EXAMPLE, "-f", manifest(tmp_path, pod({})))
    assert (one["outcome"], one["optedIn"]) == ("not-asked", False)
    assert ctl(*EXAMPLE, "-f", manifest(tmp_path, pod({}))).exit_code == Exit.OK


def test_what_validation_would_refuse_is_told_too(tmp_path: Path) -> None:
    thing = pod({}, volumes=[{"name": "h", "hostPath": {"path": "/run/kernelsecret"}}])
    shown = ctl(*EXAMPLE, "-f", manifest(tmp_path, thing))
    assert shown.exit_code == Exit.WRONG
    assert "host-path" in shown.output
    assert "is a folder of the agent of this node" in shown.output


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "CronJob"])
def test_what_workloads_make_pods_of_is_explained(kind: str, tmp_path: Path) -> None:
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "api"}}
    (one,) = explained("--offline", str(EXAMPLES), "-f", manifest(tmp_path, service, deployment(pod(), kind)))
    assert (one["namespace"], one["pod"], one["outcome"]) == ("payments", "api-*", "injected")


def test_every_pod_of_a_manifest_is_explained_and_one_refusal_is_enough_for_status_1(tmp_path: Path) -> None:
    several = {"kind": "List", "apiVersion": "v1", "items": [pod(), pod({}), pod(hostUsers=False)]}
    path = manifest(tmp_path, deployment(pod()), several)
    outcomes = [one["outcome"] for one in explained(*EXAMPLE, "-f", path)]
    assert outcomes == ["injected", "injected", "not-asked", "refused"]
    assert ctl(*EXAMPLE, "-f", path).exit_code == Exit.WRONG


def test_a_manifest_may_come_by_standard_input() -> None:
    (one,) = explained(*EXAMPLE, "-f", "-", input=json.dumps(pod()))
    assert one["outcome"] == "injected"


def test_the_namespace_is_the_manifest_s_then_the_option_s(tmp_path: Path) -> None:
    thing = pod()
    del thing["metadata"]["namespace"]
    path = manifest(tmp_path, thing)
    assert explained(*EXAMPLE, "-f", path)[0]["namespace"] == "payments"
    assert explained("--offline", str(EXAMPLES), "-f", path)[0]["namespace"] == "default"
    other = manifest(tmp_path, pod())
    assert "leave --namespace out" in usage_error("--offline", str(EXAMPLES), "-n", "other", "-f", other)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has no pod in it; what makes pods is one of Pod, Deployment"),
        ("kind: Service", "has no pod in it"),
        ("[1, 2]", "has no pod in it"),
        ("kind: Pod\nspec: [", "is not one YAML document"),
        ("kind: Pod\nkind: Pod", "has a key twice"),
        ("kind: Pod\nspec: {containers: {}}", "spec.containers: expected array"),
        ("kind: Pod\nspec: {containers: [&a {name: x}, *a]}", "has an alias"),
        ("kind: Deployment\nspec: {}", "spec.template: missing"),
        ("kind: CronJob\nspec: {jobTemplate: 5}", "spec.jobTemplate.spec.template: missing"),
        ("kind: Pod\nmetadata: {annotations: {a: 1}}", "expected str, got int"),
        ("kind: Pod\nspec: {? !!set {a} : 1}", "is not one YAML document"),
        ("x" * (3 << 20) + "y", "has more than 3145728 bytes"),
    ],
)
def test_a_manifest_that_makes_no_sense_is_a_usage_error_that_names_the_file(
    text: str, words: str, tmp_path: Path
) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    said = usage_error(*EXAMPLE, "-f", str(path))
    assert said.startswith(f"{path}: ")
    assert words in said


def test_neither_and_both_and_contradictions_are_usage_errors() -> None:
    assert usage_error(*EXAMPLE) == "name a pod, or a manifest with -f"
    assert usage_error(*EXAMPLE, "api-0", "-f", "x.yaml") == "name a pod, or a manifest with -f"
    assert "asks no API server" in usage_error(*EXAMPLE, "api-0", "--server", "http://127.0.0.1:8001")
    assert "is not a folder" in usage_error("--offline", "/nowhere", "api-0")


def test_a_pod_that_the_folder_lacks_is_looked_for_by_name(tmp_path: Path) -> None:
    failed = ctl(*EXAMPLE, "../pods/payments.api-0").exception
    assert isinstance(failed, CommandError)
    assert failed.status is Exit.WRONG
    assert "there is no pod payments/../pods/payments.api-0" in str(failed)


def test_an_interceptor_that_cannot_work_is_passed_over_as_the_webhook_does(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "interceptors" / "payments-db.yaml").write_text(
        yaml.safe_dump({**example(), "spec": {"namespaceSelector": {}, "secrets": []}})
    )
    shown = ctl("--offline", str(folder), "-n", "payments", "api-0")
    assert shown.exit_code == Exit.WRONG
    assert "there is no valid interceptor 'payments-db'" in shown.stdout
    assert "payments-db cannot work and is passed over: spec.secrets: empty" in shown.stderr


@asynccontextmanager
async def cluster(fake: FakeApiServer) -> AsyncIterator[str]:
    """The example, on an API server."""
    await fake.put("namespaces", NAMESPACE, metadata={"labels": dict(OPTED_IN)})
    await fake.put("secretinterceptors", "payments-db", **example())
    await fake.put("nodes", "node-1", metadata={"labels": {"kernelsecret.io/engine": "iter"}})
    async with serving(fake) as url:
        yield url


async def live(url: str, name: str, **more: Any) -> Any:
    asked = {"namespace": NAMESPACE, "manifest": None, "kubeconfig": None, "context": "", "server": url, **more}
    return await explain_command._online(name, **asked)


async def test_a_pod_that_runs_is_read_and_explained() -> None:
    fake = FakeApiServer()
    thing = mutated(pod())
    await fake.put("pods", "api-0", NAMESPACE, **thing)
    async with cluster(fake) as url:
        (one,) = await live(url, "api-0")
    assert (one.outcome, one.live, one.differences) == ("injected", True, ())
    assert {request.method for request in fake.requests} == {"GET"}
    # In the words of the call that decided it: the pod may name its node by now.
    assert f"decision     {thing['metadata']['annotations']['kernelsecret.io/decision']}" in explain_command.lines(one)


async def test_what_the_agent_said_of_programs_without_the_shim_is_told_again() -> None:
    fake = FakeApiServer()
    thing = mutated(pod())
    thing["metadata"]["annotations"]["kernelsecret.io/unaffected-programs"] = "/bin/busybox: static"
    await fake.put("pods", "api-0", NAMESPACE, **thing)
    async with cluster(fake) as url:
        (one,) = await live(url, "api-0")
    assert (one.unaffected, one.differences) == ("/bin/busybox: static", ())
    assert "UNAFFECTED   the shim does not reach /bin/busybox: static" in explain_command.lines(one)


@pytest.mark.parametrize(
    ("thing", "labels", "differs"),
    [
        (pod(), OPTED_IN, "it holds no files: it was created before it"),
        (mutated(pod()), {}, "it holds the files of the interceptor 'payments-db', and would be given none now"),
        (
            {**mutated(pod()), "metadata": {**mutated(pod())["metadata"], "labels": {"app": "api"}}},
            OPTED_IN,
            "metadata.labels[kernelsecret.io/injected]: is missing",
        ),
    ],
)
async def test_a_pod_that_runs_and_would_be_another_one_now_is_told(thing: Any, labels: Any, differs: str) -> None:
    fake = FakeApiServer()
    await fake.put("pods", "api-0", NAMESPACE, **thing)
    async with cluster(fake) as url:
        await fake.put("namespaces", NAMESPACE, metadata={"labels": labels})
        (one,) = await live(url, "api-0")
    assert differs in one.differences[0]
    assert f"DIFFERS      {one.differences[0]}" in explain_command.lines(one)


async def test_policy_is_read_page_by_page() -> None:
    fake = FakeApiServer(page_most=3)
    async with cluster(fake) as url:
        for number in range(10):
            await fake.put("nodes", f"n-{number}")
        view, _ = await from_cluster(Connection(url), NAMESPACE)
    assert len(view.nodes) == 11
    assert fake.requests[0].query["limit"] == str(PAGE)


async def test_a_manifest_is_judged_by_the_cluster(tmp_path: Path) -> None:
    fake = FakeApiServer()
    path = Path(manifest(tmp_path, pod(), deployment(pod())))
    async with cluster(fake) as url:
        found = await live(url, "", namespace="", manifest=path)
    assert [(one.outcome, one.live) for one in found] == [("injected", False)] * 2
    assert len([one for one in fake.requests if one.path.endswith("/nodes")]) == 1


async def test_a_namespace_that_is_not_there_is_a_refusal_and_no_error() -> None:
    fake = FakeApiServer()
    async with cluster(fake) as url:
        view, _ = await from_cluster(Connection(url), "nowhere")
    from webhook.policy.pods import read_pod

    assert explain(read_pod(json.dumps(pod()).encode()), "nowhere", view).refusals[0].rule == "namespace"


async def test_what_the_api_server_refuses_is_said_without_its_body() -> None:
    fake = FakeApiServer()
    async with cluster(fake) as url:
        with pytest.raises(ApiError, match="404"):
            await live(url, "nothing")
        fake.on_list.append(Fault.BODY_WITH_SECRET)
        with pytest.raises(ApiError, match="403") as caught:
            await from_cluster(Connection(url), NAMESPACE)
        assert "canary" not in str(caught.value)
        fake.on_list.append(Fault.NOT_JSON)
        with pytest.raises(CommandError, match="no API server"):
            await from_cluster(Connection(url), NAMESPACE)


def test_the_kubeconfig_is_the_option_s_then_the_variable_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def kubeconfig(name: str) -> Path:
        path = tmp_path / name
        cluster = {"name": "c", "cluster": {"server": f"https://{name}.example.com"}}
        context = {"name": "x", "context": {"cluster": "c", "user": "u"}}
        user = {"name": "u", "user": {"token": "t"}}
        made = {"clusters": [cluster], "contexts": [context], "users": [user], "current-context": "x"}
        path.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Config", **made}))
        return path

    monkeypatch.setenv("KUBECONFIG", f"{kubeconfig('first')}:{kubeconfig('second')}")
    assert connection_of(None, "", "").server == "https://first.example.com"
    assert connection_of(kubeconfig("third"), "", "").server == "https://third.example.com"
    assert connection_of(None, "", "http://127.0.0.1:8001/").server == "http://127.0.0.1:8001"
    monkeypatch.delenv("KUBECONFIG")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".kube").mkdir()
    kubeconfig(".kube/config")
    assert connection_of(None, "", "").server == "https://.kube/config.example.com"


def with_modes(folder: Path, *modes: str, **spec: Any) -> None:
    """The example's interceptor with these modes, its access rule waived."""
    made = example()
    made["spec"] |= {"delivery": {"modes": list(modes)}, "access": {"unenforced": "allow"}, **spec}
    (folder / "interceptors" / "payments-db.yaml").write_text(yaml.safe_dump(made))


VAULT = [
    {
        "name": "db",
        "source": {"vault": {"path": "secret/data/db", "role": "shop"}},
        "files": [{"path": "password", "key": "password"}],
    }
]


def webhook_deployment(**settings: str) -> Any:
    env = [{"name": f"KERNELSECRET_WEBHOOK_{name.upper()}", "value": value} for name, value in settings.items()]
    spec = {"template": {"spec": {"containers": [{"name": "webhook", "env": env}]}}}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "spec": spec}


SET_UP = {"vault_address": "https://vault.example:8200", "vault_agent_image": "vault:1", "vault_ca_file": "/not/here"}


def test_every_mode_of_the_interceptor_is_explained(folder: Path) -> None:
    with_modes(folder, "vault-agent", "preload", "ebpf")
    (one,) = explained("--offline", str(folder), "-n", "payments", "api-0")
    told = [(rule["verdict"], rule["text"]) for rule in one["rules"] if rule["rule"] == "mode"]
    assert [verdict for verdict, _ in told] == ["no", "yes", "note"]
    assert "mode `vault-agent`: " in told[0][1]
    assert told[1][1].startswith("mode `preload`: the pod names the node")
    assert told[2][1] == "mode `ebpf`: comes after `preload`"
    assert one["decision"].startswith("mode preload: ")
    shown = ctl("--offline", str(folder), "-n", "payments", "api-0").output
    for _, text in told:
        assert text in shown


def test_a_mode_that_no_node_has_is_explained_too(folder: Path) -> None:
    with_modes(folder, "ebpf", "preload")
    for path in (folder / "nodes").iterdir():
        path.unlink()
    (one,) = explained("--offline", str(folder), "-n", "payments", "api-0")
    assert one["outcome"] == "refused"
    assert one["refusals"][0]["rule"] == "placement"


def test_the_webhooks_settings_are_those_of_its_deployment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_modes(folder, "vault-agent", secrets=VAULT, rotation={})
    command = ("--offline", str(folder), "-f", manifest(folder, pod()))
    assert "vault_address" in explained(*command)[0]["refusals"][0]["why"]
    monkeypatch.setenv("KERNELSECRET_WEBHOOK_VAULT_SERVER_NAME", "mine.example")
    (folder / "webhook.yaml").write_text(yaml.safe_dump(webhook_deployment(**SET_UP)))
    (one,) = explained(*command)
    assert (one["outcome"], one["mode"], one["engines"]) == ("injected", "vault-agent", [])
    (folder / "webhook.yaml").write_text(yaml.safe_dump({"spec": []}))
    assert "webhook.yaml: spec" in usage_error(*command)
    (folder / "webhook.yaml").write_text(yaml.safe_dump(webhook_deployment(vault_address="https://vault.example")))
    assert "webhook.yaml: KERNELSECRET_WEBHOOK_VAULT_AGENT_IMAGE: is not set" in usage_error(*command)


def test_settings_that_come_from_another_object_are_not_taken_as_none(folder: Path) -> None:
    with_modes(folder, "vault-agent", secrets=VAULT, rotation={})
    made = webhook_deployment(**SET_UP)
    elsewhere = {"configMapKeyRef": {"name": "vault", "key": "address"}}
    env = made["spec"]["template"]["spec"]["containers"][0]["env"]
    env[0] = {"name": "KERNELSECRET_WEBHOOK_VAULT_ADDRESS", "valueFrom": elsewhere}
    (folder / "webhook.yaml").write_text(yaml.safe_dump(made))
    said = usage_error("--offline", str(folder), "-f", manifest(folder, pod()))
    assert "webhook.yaml: KERNELSECRET_WEBHOOK_VAULT_ADDRESS: comes from another object (valueFrom)" in said


async def test_settings_that_cannot_be_read_are_told_of(capsys: pytest.CaptureFixture[str]) -> None:
    made = example()
    made["spec"] |= {"delivery": {"modes": ["vault-agent"]}, "access": {"unenforced": "allow"}, "secrets": VAULT}
    api = FakeApiServer()
    await api.put("secretinterceptors", made["metadata"]["name"], **made)
    async with serving(api) as url:
        view, _ = await from_cluster(Connection(url), NAMESPACE)
    assert view.vault_agent is None
    assert "the webhook's settings cannot be read" in capsys.readouterr().err
