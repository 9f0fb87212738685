"""The parts of an agent that serve volumes, put together: what each of them is given of the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agent.credentials import Credentials
from agent.delivery.notify import Notifier
from agent.delivery.quota import Ledger
from agent.delivery.shims import Shims
from agent.delivery.volumes import Volumes
from agent.gauges import Gauges
from agent.kube.cluster import Cluster
from agent.model import Source
from agent.pod_tokens import PodTokens, Verify
from agent.publisher import NodePublisher
from agent.rights import Rights
from agent.secrets.contents import Contents
from agent.secrets.old_leases import OldLeases
from agent.secrets.readers import ReadBook
from agent.secrets.rotation import Rotator
from agent.secrets.served import ServedSecrets
from agent.secrets.showing import Showing
from agent.secrets.status import SecretsStatus
from agent.shim_publisher import ShimPublisher
from agent.teller import Teller
from agent.telling import Telling


@dataclass(frozen=True, slots=True)
class Parts:
    """All of them, for one agent."""

    volumes: Volumes
    shims: Shims
    sources: Mapping[str, Source]
    ledger: Ledger
    rotator: Rotator
    publisher: NodePublisher
    rights: Rights
    old_leases: OldLeases
    secrets: SecretsStatus
    gauges: Gauges
    served: ServedSecrets


def assemble(
    node: str,
    volumes: Volumes,
    shims: Shims,
    cluster: Cluster,
    sources: Mapping[str, Source],
    credentials: Credentials,
    verify: Verify,
    notifier: Notifier,
    teller: Teller,
    telling: Telling,
) -> Parts:
    """`credentials` are those that the sources read with."""
    metrics, conditions, recorder = telling.metrics, telling.conditions, telling.recorder
    ledger = Ledger()
    readers = ReadBook(volumes.reads)
    showing = Showing(volumes, notifier, ledger, metrics, conditions, recorder, readers)
    rotator = Rotator(volumes, sources, showing, metrics, conditions, recorder, teller=teller)
    contents = Contents(rotator, showing, count=metrics.source_error)
    rights = Rights(
        cluster,
        volumes,
        contents,
        sources,
        conditions,
        recorder,
        on_returned=showing.account,
        on_ended=rotator.forget_unused,
    )
    publisher = NodePublisher(
        node,
        cluster,
        volumes,
        ShimPublisher(node, cluster, shims, conditions, recorder),
        contents,
        PodTokens(credentials, verify, volumes),
        ledger,
        metrics,
        conditions,
        recorder,
        sources=sources,
        on_published=rights.look,
        on_ended=rotator.forget_unused,
    )
    return Parts(
        volumes,
        shims,
        sources,
        ledger,
        rotator,
        publisher,
        rights,
        OldLeases(volumes, sources, readers),
        SecretsStatus(volumes, sources, readers, showing, conditions),
        Gauges(volumes, shims, sources, ledger, metrics, conditions),
        ServedSecrets(volumes, readers, conditions, contents),
    )
