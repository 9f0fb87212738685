"""etcd, kube-apiserver and kube-scheduler as processes on free ports of loopback, with certificates."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from typing import Final

from tests.apiserver.harness.certificates import Certificates, kubeconfig
from tests.apiserver.harness.processes import Process, free_port, free_ports
from tests.apiserver.harness.waiting import until

SERVICE_RANGE: Final = "10.107.0.0/24"
FIRST_SERVICE: Final = "10.107.0.1"
ISSUER: Final = "https://kubernetes.default.svc"
MASTERS: Final = "system:masters"


class Etcd:
    """One member, its data in `folder`. It is for tests that throw it away, so it does not wait for the disk."""

    def __init__(self, program: Path, folder: Path) -> None:
        clients, peers = (f"http://127.0.0.1:{port}" for port in free_ports(2))
        self.url = clients
        command: list[str | Path] = [
            program,
            f"--data-dir={folder / 'etcd'}",
            f"--listen-client-urls={clients}",
            f"--advertise-client-urls={clients}",
            f"--listen-peer-urls={peers}",
            f"--initial-advertise-peer-urls={peers}",
            f"--initial-cluster=default={peers}",
            "--logger=zap",
            "--log-level=warn",
        ]
        self.process = Process(command, folder / "etcd.log")

    def wait_ready(self) -> None:
        """Wait until it answers; AssertionError with its log where it does not."""
        until(self._healthy, "etcd is healthy", explain=self.process.tail)

    def _healthy(self) -> bool:
        self.process.alive()
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=2) as answer:
                return bool(json.load(answer)["health"] == "true")
        except OSError:
            return False


class ApiServer:
    """kube-apiserver over an etcd. `stop` and `start` keep port, certificates and data."""

    def __init__(
        self, program: Path, folder: Path, certificates: Certificates, etcd: Etcd, name: str = "apiserver"
    ) -> None:
        self.port = free_port()
        self.url = f"https://127.0.0.1:{self.port}"
        self._log = folder / f"{name}.log"
        chain, key = certificates.server(name, "127.0.0.1", "localhost", "kubernetes.default.svc", FIRST_SERVICE)
        account_key = certificates.account_key()
        self._command: list[str | Path] = [
            program,
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            "--endpoint-reconciler-type=none",
            f"--secure-port={self.port}",
            f"--etcd-servers={etcd.url}",
            f"--tls-cert-file={chain}",
            f"--tls-private-key-file={key}",
            f"--client-ca-file={certificates.authority}",
            f"--service-account-issuer={ISSUER}",
            f"--service-account-signing-key-file={account_key}",
            f"--service-account-key-file={account_key}",
            f"--service-cluster-ip-range={SERVICE_RANGE}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--anonymous-auth=false",
            "--profiling=false",
        ]
        self._admin = certificates.client("admin", group=MASTERS)
        self._trust = ssl.create_default_context(cafile=str(certificates.authority))
        self._trust.load_cert_chain(*self._admin)
        self.admin = kubeconfig(
            folder / f"{name}-admin.json", self.url, certificates.authority, certificate=self._admin
        )
        self.process = self._started()

    def start(self) -> None:
        """Start it again after `stop`; does not wait."""
        self.process = self._started()

    def stop(self) -> None:
        """End it in order: it drains."""
        self.process.stop()

    def wait_ready(self) -> None:
        """Wait until /readyz is fine; AssertionError with its log where it is not."""
        until(self._ready, "the API server is ready", explain=self.process.tail)

    def _ready(self) -> bool:
        self.process.alive()
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=5, context=self._trust) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def _started(self) -> Process:
        return Process(self._command, self._log)


class Scheduler:
    """kube-scheduler, which tries a pod again after a second rather than ten."""

    def __init__(self, program: Path, folder: Path, certificates: Certificates, server: str) -> None:
        certificate = certificates.client("system:kube-scheduler")
        client = kubeconfig(folder / "scheduler.json", server, certificates.authority, certificate=certificate)
        settings = folder / "scheduler-settings.json"
        settings.write_text(
            json.dumps(
                {
                    "apiVersion": "kubescheduler.config.k8s.io/v1",
                    "kind": "KubeSchedulerConfiguration",
                    "clientConnection": {"kubeconfig": str(client)},
                    "leaderElection": {"leaderElect": False},
                    "podInitialBackoffSeconds": 1,
                    "podMaxBackoffSeconds": 1,
                }
            )
        )
        command: list[str | Path] = [program, f"--config={settings}", "--secure-port=0"]
        self.process = Process(command, folder / "scheduler.log")
