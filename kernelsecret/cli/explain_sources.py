"""Where `explain` has pods and policy from: the API server, a folder of objects, or a manifest."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec

from agent.kube.objects import parse
from apiclient import paths
from apiclient.client import ApiClient, ApiError
from apiclient.connection import ACCOUNT_FOLDER, Connection, from_kubeconfig, in_cluster
from apiclient.objects import Unreadable, read_page
from kernelsecret.cli import explain_webhook
from kernelsecret.cli.failures import CommandError, Exit, say
from kernelsecret.errors import Refused
from kernelsecret.names import SERVICE_WEBHOOK, SYSTEM_NAMESPACE
from kernelsecret.problems import from_decoder, shown
from webhook.cluster.objects import Interceptor, InvalidInterceptor, read_known_interceptor, read_namespace, read_node
from webhook.policy.interceptors import Interceptors
from webhook.policy.nodes import Nodes
from webhook.policy.pods import Pod, read_pod
from webhook.policy.vault_agent.settings import VaultAgentSettings
from webhook.policy.view import FixedView

T = TypeVar("T")

PAGE = 500
MAX_BYTES = 3 << 20
"""Of a manifest, and of each file of a folder."""
_SEPARATOR = re.compile(rb"^---(?:[ \t].*)?$", re.MULTILINE)
_TEMPLATES = {
    "Deployment": ("spec", "template"),
    "ReplicaSet": ("spec", "template"),
    "ReplicationController": ("spec", "template"),
    "StatefulSet": ("spec", "template"),
    "DaemonSet": ("spec", "template"),
    "Job": ("spec", "template"),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
    "PodTemplate": ("template",),
}
"""Kinds that make pods, and where what they make them of stands."""


class Subject(NamedTuple):
    """A pod that may be created, and the namespace that its manifest names, empty where it names none."""

    pod: Pod
    namespace: str


def connection_of(kubeconfig: Path | None, context: str, server: str) -> Connection:
    """The API server that is meant. Raises Refused."""
    if server:
        return Connection(server.rstrip("/"))
    if kubeconfig is None:
        first = os.environ.get("KUBECONFIG", "").partition(os.pathsep)[0]
        kubeconfig = Path(first) if first else Path.home() / ".kube" / "config"
        if not first and not kubeconfig.exists() and (ACCOUNT_FOLDER / "token").exists():
            return in_cluster()
    return from_kubeconfig(kubeconfig, context)


async def from_cluster(connection: Connection, namespace: str, name: str = "") -> tuple[FixedView, Pod | None]:
    """Policy as the API server has it now, and the pod where one is named. Raises ApiError."""
    async with ApiClient(connection) as client:
        pod = _read(read_pod, await client.get(paths.pod(namespace, name)), "the pod") if name else None
        nodes = [_read(read_node, raw, "a node") for raw in await _all(client, paths.nodes())]
        raws = await _all(client, paths.interceptors())
        known = [_read(read_known_interceptor, raw, "an interceptor") for raw in raws]
        try:
            found = _read(read_namespace, await client.get(paths.namespace(namespace)), "the namespace")
            namespaces = {found.name: found.labels}
        except ApiError as error:
            if error.status != 404:
                raise
            namespaces = {}
        valid = _valid(known)
        settings = await _settings(client) if explain_webhook.is_needed(valid) else None
    if pod is not None:
        settings = explain_webhook.as_this_pod_has_it(settings, pod)
    return FixedView(Nodes(nodes), valid, namespaces, settings), pod


async def _settings(client: ApiClient) -> VaultAgentSettings | None:
    try:
        raw = await client.get(paths.deployment(SYSTEM_NAMESPACE, SERVICE_WEBHOOK))
        return explain_webhook.read_settings(raw)
    except Refused as refused:
        say(explain_webhook.unknown(refused))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        say(explain_webhook.unknown(None))
    return None


def from_folder(root: Path) -> FixedView:
    """Policy from `interceptors/`, `namespaces/` and `nodes/` of a folder, each file an object, and `webhook.yaml`."""
    if not root.is_dir():
        raise CommandError(f"{root} is not a folder: name one with interceptors/, namespaces/ and nodes/", Exit.USAGE)
    spaces = [_object(read_namespace, path) for path in _files(root / "namespaces")]
    known = [_object(read_known_interceptor, path) for path in _files(root / "interceptors")]
    nodes = [_object(read_node, path) for path in _files(root / "nodes")]
    path = root / explain_webhook.FILE
    settings = _object(explain_webhook.read_settings, path) if path.is_file() else None
    return FixedView(Nodes(nodes), _valid(known), {one.name: one.labels for one in spaces}, settings)


def pod_in_folder(root: Path, namespace: str, name: str) -> Pod:
    """The pod in `pods/<namespace>.<name>.yaml` of a folder."""
    path = root / "pods" / f"{namespace}.{name}.yaml"
    if "/" in namespace + name or not path.is_file():
        raise CommandError(f"there is no pod {shown(namespace)}/{shown(name)}: looked for {path}")
    return _object(read_pod, path)


def from_manifest(path: Path) -> list[Subject]:
    """The pods of a YAML or JSON file, `-` for standard input: its Pods, and what its workloads make pods of."""
    text = sys.stdin.buffer.read(MAX_BYTES + 1) if str(path) == "-" else _bytes(path)
    if len(text) > MAX_BYTES:
        raise CommandError(f"{path}: has more than {MAX_BYTES} bytes", Exit.USAGE)
    found = [subject for part in _SEPARATOR.split(text) for subject in _subjects(_document(part, path), path)]
    if not found:
        kinds = ", ".join(("Pod", *_TEMPLATES))
        raise CommandError(f"{path}: has no pod in it; what makes pods is one of {kinds}", Exit.USAGE)
    return found


def _subjects(thing: object, path: Path) -> list[Subject]:
    if not isinstance(thing, dict):
        return []
    if thing.get("kind") == "List" and isinstance(thing.get("items"), list):
        return [subject for item in thing["items"] for subject in _subjects(item, path)]
    if thing.get("kind") == "Pod":
        pod = _decoded(read_pod, thing, str(path))
        return [Subject(pod, pod.metadata.namespace or "")]
    way = _TEMPLATES.get(str(thing.get("kind")))
    if way is None:
        return []
    made: Any = thing
    for step in way:
        made = made.get(step) if isinstance(made, dict) else None
    outer = thing["metadata"] if isinstance(thing.get("metadata"), dict) else {}
    if not isinstance(made, dict):
        raise CommandError(f"{path}: {'.'.join(way)}: missing", Exit.USAGE)
    meta = made["metadata"] if isinstance(made.get("metadata"), dict) else {}
    named = {**made, "metadata": {**meta, "name": None, "generateName": f"{outer.get('name', '')}-"}}
    pod = _decoded(read_pod, named, str(path))
    return [Subject(pod, str(outer.get("namespace") or ""))]


async def _all(client: ApiClient, path: str) -> list[bytes]:
    """Every object of a collection, page by page."""
    found: list[bytes] = []
    query = {"limit": str(PAGE)}
    while True:
        try:
            page = read_page(await client.get(path, query=query, timeout_s=30))
        except Unreadable:
            raise CommandError(f"what answered to {path} is no API server") from None
        found += map(bytes, page.items or ())
        if not page.metadata.continue_:
            return found
        query = {**query, "continue": page.metadata.continue_}


def _valid(known: Iterable[Interceptor]) -> Interceptors:
    """As the webhook knows them: what cannot work is as if it were not there, and is told."""
    made = Interceptors()
    for one in known:
        if isinstance(one, InvalidInterceptor):
            say(f"the interceptor {shown(one.metadata.name)} cannot work and is passed over: {one.why}")
        else:
            made.put(one)
    return made


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*") if path.suffix in (".yaml", ".yml", ".json"))


def _bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_BYTES + 1)


def _object(read: Callable[[bytes], T], path: Path) -> T:
    return _decoded(read, _document(_bytes(path), path), str(path))


def _document(text: bytes, path: Path) -> object:
    try:
        return parse(text)
    except ValueError as error:
        raise CommandError(f"{path}: {error}", Exit.USAGE) from None


def _decoded(read: Callable[[bytes], T], thing: object, what: str) -> T:
    try:
        raw = msgspec.json.encode(thing)
    except (TypeError, ValueError, RecursionError, OverflowError):
        raise CommandError(f"{what}: has what no object of Kubernetes has", Exit.USAGE) from None
    return _read(read, raw, what, Exit.USAGE)


def _read(read: Callable[[bytes], T], raw: bytes, what: str, status: Exit = Exit.WRONG) -> T:
    try:
        return read(raw)
    except msgspec.ValidationError as error:
        raise CommandError(f"{what}: {from_decoder(str(error))}", status) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise CommandError(f"{what}: cannot be read", status) from None
    except Refused as refused:
        raise CommandError(f"{what}: {refused}", status) from None
