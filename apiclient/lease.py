"""What stands in a Lease, and who may take it when. Pure."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec


class LeaseMeta(msgspec.Struct, rename="camel", omit_defaults=True):
    """Who the lease is. `resource_version` makes a write fail when another came first."""

    name: str
    namespace: str
    resource_version: str = ""


class LeaseSpec(msgspec.Struct, rename="camel", omit_defaults=True):
    """Times are RFC 3339 with microseconds, as they came: nobody here compares them with a clock."""

    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    acquire_time: str | None = None
    renew_time: str | None = None
    lease_transitions: int | None = None


class Lease(msgspec.Struct, rename="camel"):
    """A coordination.k8s.io/v1 Lease, without the fields that we leave to others."""

    metadata: LeaseMeta
    api_version: str = "coordination.k8s.io/v1"
    kind: str = "Lease"
    spec: LeaseSpec = msgspec.field(default_factory=LeaseSpec)


def micro_time(now: datetime) -> str:
    """A time as Leases have it."""
    return now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def taken(found: Lease, identity: str, lease_s: int, now: datetime) -> Lease:
    """The lease as `identity` writes it to take or to renew it, at the resource version that was read."""
    spec = found.spec
    ours = spec.holder_identity == identity
    stamp = micro_time(now)
    return Lease(
        metadata=found.metadata,
        spec=LeaseSpec(
            holder_identity=identity,
            lease_duration_seconds=lease_s,
            acquire_time=spec.acquire_time if ours and spec.acquire_time else stamp,
            renew_time=stamp,
            lease_transitions=(spec.lease_transitions or 0) + (0 if ours else 1),
        ),
    )


def released(held: Lease, now: datetime) -> Lease:
    """The lease as its holder leaves it: the next may take it at once."""
    stamp = micro_time(now)
    return Lease(
        metadata=held.metadata,
        spec=LeaseSpec(
            holder_identity="",
            lease_duration_seconds=1,
            acquire_time=stamp,
            renew_time=stamp,
            lease_transitions=held.spec.lease_transitions,
        ),
    )


class Sightings:
    """When we last saw the lease change, on our own clock: another's clock is never believed."""

    def __init__(self) -> None:
        self._version: str | None = None
        self._seen_at = 0.0

    def free(self, lease: Lease, now: float, least_s: float) -> bool:
        """Whether nobody holds the lease that was read just now: it was given back, or it was not renewed for as long
        as its holder had said (never less than `least_s`) since we first saw it as it is.
        """
        if lease.metadata.resource_version != self._version:
            self._version = lease.metadata.resource_version
            self._seen_at = now
        if not lease.spec.holder_identity:
            return True
        return now - self._seen_at > max(least_s, float(lease.spec.lease_duration_seconds or 0))
