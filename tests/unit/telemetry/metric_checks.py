"""What every daemon's metrics are held to."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client.parser import text_string_to_metric_families

from telemetry.metrics import Definition


def require_served(text: bytes, definitions: Sequence[Definition]) -> None:
    """Prometheus' own parser finds every metric as it is defined; each must have been used."""
    families = {family.name: family for family in text_string_to_metric_families(text.decode())}
    for one in definitions:
        family = families[one.name.removesuffix("_total")]
        assert family.documentation == one.help
        assert family.type == one.kind.__name__.lower()
        labels = {name for sample in family.samples for name in sample.labels} - {"le"}
        assert labels == set(one.labels)
    assert "process_resident_memory_bytes" in families


def require_named(definitions: Sequence[Definition], prefix: str) -> None:
    """Each is ours by name, and explained."""
    for one in definitions:
        assert one.name.startswith(prefix)
        assert one.help.endswith(".")
        assert (one.kind.__name__ == "Counter") == one.name.endswith("_total")
