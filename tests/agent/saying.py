"""What an agent says of itself: health, metrics, status, log and audit."""

from __future__ import annotations

import http.client
import json
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

ANSWER_S = 20.0


class Saying:
    """Asks the agent that listens at these places."""

    port: int
    run: Path
    log: Path
    audit: Path

    def says_ready(self) -> bool:
        """Whether /readyz says so."""
        with suppress(OSError, http.client.HTTPException):
            return self._get("/readyz")[0] == 200
        return False

    def metrics(self) -> str:
        """The text of /metrics."""
        return self._get("/metrics")[1]

    def metric(self, name: str, **labels: str) -> float:
        """One sample; 0 where there is none."""
        for family in text_string_to_metric_families(self.metrics()):
            for sample in family.samples:
                if sample.name == name and labels.items() <= sample.labels.items():
                    return float(sample.value)
        return 0.0

    def status_text(self) -> str:
        """The status document."""
        connection = http.client.HTTPConnection("localhost", timeout=ANSWER_S)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(str(self.run / "admin.sock"))
        try:
            connection.request("GET", "/status")
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    def status(self) -> dict[str, Any]:
        """The status document, parsed."""
        found: dict[str, Any] = json.loads(self.status_text())
        return found

    def conditions(self) -> dict[str, str]:
        """What is wrong now: reason -> why."""
        return {one["reason"]: one["why"] for one in self.status()["conditions"]}

    def logged(self, event: str) -> list[dict[str, Any]]:
        """The log's lines of one event."""
        return _events(self.log, event)

    def audited(self, event: str) -> list[dict[str, Any]]:
        """The audit log's lines of one event."""
        return _events(self.audit, event)

    def _get(self, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_S)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()


def _events(path: Path, event: str) -> list[dict[str, Any]]:
    # The last line may be half written while it is read.
    whole, _, _ = path.read_text().rpartition("\n")
    lines = (json.loads(line) for line in whole.splitlines() if line.startswith("{"))
    return [line for line in lines if line["event"] == event]
