"""Another project's injector, as clusters have them: a real HTTPS webhook that adds a sidecar to labelled pods."""

from __future__ import annotations

import base64
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from tests.apiserver.harness.cluster import Cluster

LABEL: Final = "mesh.example.com/inject"
SIDECAR: Final = "mesh-sidecar"


def patched(review: dict[str, Any]) -> dict[str, Any]:
    """The answer: a sidecar and a volume of its own in front of what is there, once."""
    request = review["request"]
    response: dict[str, Any] = {"uid": request["uid"], "allowed": True}
    spec = request["object"]["spec"]
    if all(container["name"] != SIDECAR for container in spec["containers"]):
        sidecar = {"name": SIDECAR, "image": "mesh.example.com/sidecar:1"}
        operations: list[dict[str, Any]] = [{"op": "add", "path": "/spec/containers/0", "value": sidecar}]
        volume = {"name": "mesh", "emptyDir": {}}
        if spec.get("volumes"):
            operations.append({"op": "add", "path": "/spec/volumes/0", "value": volume})
        else:
            operations.append({"op": "add", "path": "/spec/volumes", "value": [volume]})
        response |= {"patchType": "JSONPatch", "patch": base64.b64encode(json.dumps(operations).encode()).decode()}
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one packet an answer: two of them would wait for each other (Nagle, delayed acknowledgements)

    def do_POST(self) -> None:
        review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        body = json.dumps(patched(review)).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Says nothing."""


@contextmanager
def injector(cluster: Cluster, name: str) -> Iterator[None]:
    """Serve it and register it in the cluster; the API server calls webhooks in the order of these names."""
    chain, key = cluster.certificates.server(f"injector-{name}", "127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
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
                "reinvocationPolicy": "IfNeeded",
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
