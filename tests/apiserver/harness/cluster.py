"""A cluster without kubelets: etcd, kube-apiserver, and kube-scheduler where wanted. Nodes are objects of the tests.

with Cluster.started(folder) as cluster:
    cluster.namespace("shop")
    cluster.kubectl.apply({...})
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from kubernetes import client, config

from tests.apiserver.harness.certificates import Certificates, kubeconfig
from tests.apiserver.harness.control_plane import ApiServer, Etcd, Scheduler
from tests.apiserver.harness.kubectl import Kubectl
from tests.apiserver.harness.parts import part
from tests.apiserver.harness.waiting import until

PROGRAMS: Final = ("etcd", "kube-apiserver", "kube-scheduler", "kubectl")


def lacks(*programs: str) -> str | None:
    """Which of the programs (all of them by default) are not there, and how they come, or None."""
    away = [name for name in programs or PROGRAMS if part(name) is None]
    return f"{', '.join(away)} (make test-apiserver builds and installs what is missing)" if away else None


class Cluster:
    """A running one; see `started`. `api` is the official client as a cluster admin."""

    def __init__(self, folder: Path, *, scheduler: bool) -> None:
        self.folder = folder
        self.certificates = Certificates(folder / "certificates")
        self.etcd = Etcd(_program("etcd"), folder)
        self.server = ApiServer(_program("kube-apiserver"), folder, self.certificates, self.etcd)
        self.scheduler: Scheduler | None = None
        self._wants_scheduler = scheduler
        self.kubectl = Kubectl(_program("kubectl"), self.server.admin, folder)
        untyped: Any = config
        self.api: Any = untyped.new_client_from_config(config_file=str(self.server.admin))
        self.core: Any = client.CoreV1Api(self.api)

    @classmethod
    @contextmanager
    def started(cls, folder: Path, *, scheduler: bool = True) -> Iterator[Cluster]:
        """Start one in `folder`, which is there and empty; it ends with the block."""
        cluster = cls(folder, scheduler=scheduler)
        try:
            cluster.wait_ready()
            yield cluster
        finally:
            cluster.close()

    def wait_ready(self) -> None:
        """Wait until all of it runs."""
        self.etcd.wait_ready()
        self.server.wait_ready()
        if self._wants_scheduler and self.scheduler is None:
            self._start_scheduler()

    def close(self) -> None:
        """End it: the API server before etcd, as it drains."""
        self.api.close()
        if self.scheduler:
            self.scheduler.process.stop()
        self.server.stop()
        self.etcd.process.stop()

    def restart_server(self) -> None:
        """Let the API server crash and start it again, at the same address."""
        self.server.process.kill()
        self.server.start()
        self.server.wait_ready()

    @contextmanager
    def without_server(self) -> Iterator[None]:
        """A while in which the API server does not run."""
        self.server.process.kill()
        try:
            yield
        finally:
            self.server.start()
            self.server.wait_ready()
            if self.scheduler:
                # It would wait up to a minute before it looks again.
                self.scheduler.process.stop()
                self._start_scheduler()

    def _start_scheduler(self) -> None:
        program = _program("kube-scheduler")
        self.scheduler = Scheduler(program, self.folder, self.certificates, self.server.url)

    @contextmanager
    def another_server(self) -> Iterator[ApiServer]:
        """A second API server over the same etcd, ready; it ends with the block."""
        program = _program("kube-apiserver")
        server = ApiServer(program, self.folder, self.certificates, self.etcd, "apiserver-2")
        try:
            server.wait_ready()
            yield server
        finally:
            server.process.kill()

    # What controllers and kubelets would make

    def namespace(self, name: str, labels: Mapping[str, str] | None = None) -> Kubectl:
        """Create a namespace with its default account (no controller is there to do it); kubectl within it."""
        self.core.create_namespace({"metadata": {"name": name, "labels": dict(labels or {})}})
        self.account(name, "default")
        return self.kubectl.within(name)

    def account(self, namespace: str, name: str) -> None:
        """Create a service account."""
        self.core.create_namespaced_service_account(namespace, {"metadata": {"name": name}})

    def node(
        self,
        name: str,
        labels: Mapping[str, str] | None = None,
        taints: Sequence[Mapping[str, str]] = (),
        *,
        address: str = "127.0.0.1",
    ) -> None:
        """Create a Ready node, as its kubelet would register it."""
        spec = {"taints": list(taints)}
        named = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", **(labels or {})}
        self.core.create_node({"metadata": {"name": name, "labels": named}, "spec": spec})
        # The API server taints a new node as not ready; the node controller would take that away.
        self.core.patch_node(name, {"spec": spec}, _content_type="application/merge-patch+json")
        status = {
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "as a test"}],
            "addresses": [{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": name}],
            "capacity": {"cpu": "64", "memory": "256Gi", "pods": "100000"},
            "allocatable": {"cpu": "64", "memory": "256Gi", "pods": "100000"},
        }
        self.core.patch_node_status(name, {"status": status})

    def remove_node(self, name: str) -> None:
        """Delete a node."""
        self.core.delete_node(name)

    def remove_pod(self, namespace: str, name: str) -> None:
        """Delete a pod at once: there is no kubelet to confirm its end."""
        self.core.delete_namespaced_pod(name, namespace, grace_period_seconds=0)

    def set_running(self, namespace: str, name: str) -> None:
        """Say as its kubelet that a pod runs."""
        self.core.patch_namespaced_pod_status(name, namespace, {"status": {"phase": "Running"}})

    def bound(self, namespace: str, name: str) -> str:
        """Wait until a pod is bound; its node."""

        def node() -> str | None:
            found: str | None = self.core.read_namespaced_pod(name, namespace).spec.node_name
            return found

        return until(node, f"{namespace}/{name} is bound", explain=lambda: self.events(namespace)) or ""

    def events(self, namespace: str) -> str:
        """What is said of a namespace's objects."""
        items = self.core.list_namespaced_event(namespace).items
        return "\n".join(f"{event.involved_object.name}: {event.reason}: {event.message}" for event in items)

    # Who calls

    def user(self, name: str, *, group: str | None = None) -> Kubectl:
        """kubectl as a user by certificate, with nothing but what RBAC gives it."""
        path = self.folder / f"user-{name.replace(':', '-')}.json"
        certificate = self.certificates.client(name, group=group)
        kubeconfig(path, self.server.url, self.certificates.authority, certificate=certificate)
        return Kubectl(_program("kubectl"), path, self.folder)

    def token(self, namespace: str, account: str, *, audience: str = "", pod: str = "", seconds: int = 3600) -> str:
        """A token of a service account by TokenRequest; bound to one of its pods where `pod` names it."""
        spec: dict[str, Any] = {"expirationSeconds": seconds, "audiences": [audience] if audience else []}
        if pod:
            uid = self.core.read_namespaced_pod(pod, namespace).metadata.uid
            spec["boundObjectRef"] = {"apiVersion": "v1", "kind": "Pod", "name": pod, "uid": uid}
        answer = self.core.create_namespaced_service_account_token(account, namespace, {"spec": spec})
        return str(answer.status.token)

    def kubeconfig_of(self, namespace: str, account: str, *, file: str = "", server: str = "", pod: str = "") -> Path:
        """A kubeconfig of a service account, with nothing but what RBAC gives it; `pod` is as for `token`."""
        path = self.folder / (file or f"{namespace}-{account}.json")
        token = self.token(namespace, account, pod=pod)
        authority = self.certificates.authority
        return kubeconfig(path, server or self.server.url, authority, token=token, namespace=namespace)


def _program(name: str) -> Path:
    found = part(name)
    assert found is not None, lacks(name)
    return found
