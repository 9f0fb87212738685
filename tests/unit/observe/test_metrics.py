from __future__ import annotations

import errno

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from agent.observe.metric_table import DEFINITIONS
from agent.observe.metrics import Metrics
from agent.observe.records import Rule
from tests.unit.telemetry.metric_checks import require_named, require_served


def use_everything(metrics: Metrics, word: str = "file") -> None:
    metrics.rotation(word, 0.004)
    metrics.rotation(word, None)
    metrics.volumes(word, 3)
    metrics.volumes_without_right(word, 1)
    metrics.unenforced_volume(word)
    metrics.shim_volumes(2)
    metrics.unaffected_programs(word, 1)
    metrics.registration(word)
    metrics.registration_asked(word)
    metrics.pod_event(word)
    metrics.namespace_usage(word, 4096, 65536)
    metrics.map_entries(word, 3, 1024)
    metrics.reads(word, 5)
    metrics.refusals(Rule.APP)
    metrics.syscall(word)
    metrics.syscall(word, errno.ENOMEM)
    metrics.dropped_events(2, word)
    metrics.source_up(word, True)
    metrics.source_error(word, word)
    metrics.source_away(word, 1.5)
    metrics.source_login(word, word)
    metrics.source_secrets(word, good=3, failing=1, age_s=0.5)
    metrics.source_leases(word, current=1, old=2)
    metrics.publish(word, 0.01)
    metrics.adopted_volumes(7)
    metrics.degraded(word, True)
    metrics.audit_failure()
    metrics.log_fields_dropped(1)


def test_prometheus_own_parser_reads_what_is_served_and_finds_every_metric() -> None:
    metrics = Metrics()
    use_everything(metrics)
    require_served(metrics.render(), DEFINITIONS)


def test_every_metric_is_ours_by_name_and_explained() -> None:
    require_named(DEFINITIONS, "kernelsecret_")


def test_counts_and_gauges_are_what_was_told() -> None:
    metrics = Metrics()
    use_everything(metrics)
    value = metrics.registry.get_sample_value
    assert value("kernelsecret_rotations_total", {"source": "file"}) == 2
    assert value("kernelsecret_rotation_duration_seconds_count") == 1
    assert value("kernelsecret_map_bytes", {"namespace": "file"}) == 4096
    assert value("kernelsecret_map_quota_bytes", {"namespace": "file"}) == 65536
    assert value("kernelsecret_syscalls_total", {"call": "file", "result": "ok"}) == 1
    assert value("kernelsecret_syscalls_total", {"call": "file", "result": "ENOMEM"}) == 1
    assert value("kernelsecret_adopted_volumes") == 7


def test_a_namespace_without_bound_or_without_volumes_has_no_series() -> None:
    metrics = Metrics()
    metrics.namespace_usage("shop", 1, 10)
    metrics.namespace_usage("shop", 2, None)
    value = metrics.registry.get_sample_value
    assert value("kernelsecret_map_quota_bytes", {"namespace": "shop"}) is None
    assert value("kernelsecret_map_bytes", {"namespace": "shop"}) == 2
    metrics.forget_namespace("shop")
    metrics.forget_namespace("shop")
    assert value("kernelsecret_map_bytes", {"namespace": "shop"}) is None


def test_namespaces_are_bounded_and_make_room_when_they_go() -> None:
    metrics = Metrics()
    for number in range(1000):
        metrics.namespace_usage(f"n{number}", 1, None)
    metrics.namespace_usage("late", 1, None)
    value = metrics.registry.get_sample_value
    assert value("kernelsecret_map_bytes", {"namespace": "late"}) is None
    assert value("kernelsecret_map_bytes", {"namespace": "other"}) == 1
    metrics.forget_namespace("n0")
    metrics.namespace_usage("late", 1, None)
    assert value("kernelsecret_map_bytes", {"namespace": "late"}) == 1


@given(st.text(min_size=1))
def test_text_that_is_not_well_formed_never_becomes_a_label(word: str) -> None:
    metrics = Metrics()
    use_everything(metrics, f"{word}\n!")
    served = {
        value
        for family in text_string_to_metric_families(metrics.render().decode())
        if family.name.startswith("kernelsecret_")
        for sample in family.samples
        for name, value in sample.labels.items()
        if name != "le"
    }
    assert served <= {"other", "app", "ok", "ENOMEM", "good", "failing", "current", "old"}
