"""Another project's injector, as clusters have them: a real HTTPS webhook that changes labelled pods."""

from __future__ import annotations

import base64
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from tests.apiserver.harness.cluster import Cluster

LABEL: Final = "mesh.example.com/inject"
SIDECAR: Final = "mesh-sidecar"


Operations = list[dict[str, Any]]
Change = Callable[[dict[str, Any]], Operations]
"""From a pod's spec to the JSON Patch that it answers."""


def with_sidecar(spec: dict[str, Any]) -> Operations:
    """A sidecar and a volume of its own in front of what is there, once."""
    if any(container["name"] == SIDECAR for container in spec["containers"]):
        return []
    sidecar = {"name": SIDECAR, "image": "mesh.example.com/sidecar:1"}
    volume = {"name": "mesh", "emptyDir": {}}
    at, value = ("/spec/volumes/0", volume) if spec.get("volumes") else ("/spec/volumes", [volume])
    return [
        {"op": "add", "path": "/spec/containers/0", "value": sidecar},
        {"op": "add", "path": at, "value": value},
    ]


def answered(review: dict[str, Any], change: Change) -> dict[str, Any]:
    """The answer to a review."""
    request = review["request"]
    response: dict[str, Any] = {"uid": request["uid"], "allowed": True}
    operations = change(request["object"]["spec"])
    if operations:
        response |= {"patchType": "JSONPatch", "patch": base64.b64encode(json.dumps(operations).encode()).decode()}
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, change: Change) -> None:
        self.change = change
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one packet an answer: two of them would wait for each other (Nagle, delayed acknowledgements)

    def do_POST(self) -> None:
        assert isinstance(self.server, _Server)
        review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        body = json.dumps(answered(review, self.server.change)).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Says nothing."""


@contextmanager
def injector(cluster: Cluster, name: str, change: Change = with_sidecar, *, again: bool = True) -> Iterator[None]:
    """Serve it and register it in the cluster; the API server calls webhooks in the order of these names. `again`: it
    is called once more where a later one has changed something.
    """
    chain, key = cluster.certificates.server(f"injector-{name}", "127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    server = _Server(change)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    configuration = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": name},
        "webhooks": [
            {
                "name": "mesh.example.com",
                "admissionReviewVersions": ["v1"],
                "sideEffects": "None",
                "failurePolicy": "Fail",
                "reinvocationPolicy": "IfNeeded" if again else "Never",
                "objectSelector": {"matchLabels": {LABEL: "true"}},
                "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}],
                "clientConfig": {
                    "url": f"https://127.0.0.1:{server.server_port}/inject",
                    "caBundle": base64.b64encode(cluster.certificates.authority.read_bytes()).decode(),
                },
            }
        ],
    }
    try:
        cluster.kubectl.apply(configuration)
        yield
    finally:
        cluster.kubectl("delete", "mutatingwebhookconfiguration", name)
        server.shutdown()
        server.server_close()
        thread.join()
