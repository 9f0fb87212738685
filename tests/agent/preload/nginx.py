"""nginx: it reads certificate and key when it is told to, and must show a pair that matches in every handshake."""

from __future__ import annotations

import re
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.agent.preload.place import PREFIX, TOOLS, Place, has_shim, path_of
from tests.agent.preload.values import BUNDLE, HOST
from tests.agent.preload.watching import Seen
from tests.apiserver.harness.processes import free_port
from tests.apiserver.harness.waiting import until

TWO_VERSIONS: Final = "key values mismatch"
"""What nginx says of a file that it has opened twice, for certificate and for key, with a rotation between the two."""
COMPLAINT: Final = re.compile(r"\[(?:emerg|alert|crit|error)\]")
RELOADED_WITHIN_S: Final = 30.0
PAUSE_S: Final = 0.004
NAMED: Final = re.compile(r"v(\d+)\.programs\.test")
CONFIGURATION: Final = """\
daemon off;
user root;
worker_processes 1;
pid /tmp/nginx.pid;
error_log {tools}/nginx.log;
events {{}}
http {{
	access_log off;
	client_body_temp_path /tmp/body;
	proxy_temp_path /tmp/proxy;
	fastcgi_temp_path /tmp/fastcgi;
	uwsgi_temp_path /tmp/uwsgi;
	scgi_temp_path /tmp/scgi;
	server {{
		listen 127.0.0.1:{port} ssl;
		ssl_certificate {prefix}/{bundle};
		ssl_certificate_key {prefix}/{bundle};
		return 200 answered;
	}}
}}
"""


class Nginx:
    """A server that reloads as soon as it has a new version; handshakes go on all the time."""

    name = "nginx"

    def __init__(self, place: Place, authority_pem: str, shown: Callable[[], int]) -> None:
        self._shown = shown
        self._port = free_port()
        self._client = ssl.create_default_context(cadata=authority_pem)
        self._log = place.tools / "nginx.log"
        (place.tools / "nginx.conf").write_text(
            CONFIGURATION.format(tools=TOOLS, port=self._port, prefix=PREFIX, bundle=BUNDLE)
        )
        self._container = place.start(self.name, [path_of("nginx"), "-e", "stderr", "-c", f"{TOOLS}/nginx.conf"])
        until(self._answers, "nginx answers", explain=lambda: read(self._log))

    def run(self, stopped: threading.Event) -> Seen:
        """Until stopped and until it shows the version that was shown then."""
        seen = Seen(has_shim=has_shim(self._container))
        floor = done = 0
        while True:
            is_last, asked = stopped.is_set(), self._shown()
            if asked > seen.last:
                if self._reloaded(seen, asked, floor):
                    # Workers of the reload before may answer until this one's have taken over.
                    floor, done = done, asked
            elif is_last:
                break
            else:
                self._handshake(seen, floor)
            if seen.faults:
                break
        self._judge(seen)
        return seen

    def _reloaded(self, seen: Seen, asked: int, floor: int) -> bool:
        """Tell it to reload; whether it did, and shows this version or a newer one."""
        complaints = self._complaints()
        self._container.process.send(signal.SIGHUP)
        end = time.monotonic() + RELOADED_WITHIN_S
        while seen.last < asked and not seen.faults:
            if self._complaints() > complaints:
                seen.refused += 1
                return False
            self._handshake(seen, floor)
            if time.monotonic() > end:
                seen.fault("reload", f"{seen.last} {RELOADED_WITHIN_S:g} s after it was told to show {asked}")
        return True

    def _complaints(self) -> int:
        return len(COMPLAINT.findall(read(self._log)))

    def _judge(self, seen: Seen) -> None:
        """What nginx complained of, but for two versions in one file: then it goes on with the pair that it has."""
        for line in read(self._log).splitlines():
            if COMPLAINT.search(line) and TWO_VERSIONS not in line:
                seen.fault("reload", line)

    def _handshake(self, seen: Seen, floor: int) -> None:
        time.sleep(PAUSE_S)  # to leave something of the machine to the others
        try:
            seen.read("ssl_certificate and its key (prefix)", self._number(), floor)
        except (OSError, ValueError) as error:
            seen.fault("handshake", f"{type(error).__name__}: {error}")

    def _number(self) -> int:
        """The version of the pair that it shows. Raises OSError where there is no handshake."""
        with (
            socket.create_connection(("127.0.0.1", self._port), timeout=10) as plain,
            self._client.wrap_socket(plain, server_hostname=HOST) as secured,
        ):
            certificate = secured.getpeercert()
        found = NAMED.search(str(certificate and certificate.get("subjectAltName")))
        if not found:
            raise ValueError("a certificate that was never published")
        return int(found[1])

    def _answers(self) -> bool:
        try:
            return self._number() > 0
        except OSError:
            return False


def read(log: Path) -> str:
    """What nginx has said."""
    return log.read_text(errors="replace") if log.exists() else ""
