"""Which interceptors select a pod: the sorted answer against asking each one."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.webhook.builders import interceptor
from webhook.policy.interceptors import Interceptors

selectors: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.just({}),
    st.dictionaries(st.sampled_from("abc"), st.sampled_from("xy"), min_size=1).map(lambda made: {"matchLabels": made}),
    st.sampled_from(["Exists", "DoesNotExist"]).map(
        lambda operator: {"matchExpressions": [{"key": "a", "operator": operator}]}
    ),
)
labels = st.dictionaries(st.sampled_from("abc"), st.sampled_from("xyz"))


@given(st.lists(st.tuples(selectors, selectors), max_size=6), labels, labels)
def test_sorting_changes_no_answer(pairs: list[tuple[Any, Any]], namespace: Any, pod: Any) -> None:
    made = [
        interceptor(f"i-{number}", namespaceSelector=of_namespace, podSelector=of_pod)
        for number, (of_namespace, of_pod) in enumerate(pairs)
    ]
    asked = {
        one.metadata.name
        for one in made
        if one.spec.namespace_selector.matches(namespace) and one.spec.pod_selector.matches(pod)
    }
    found = Interceptors(made).selecting(namespace, pod)
    assert {one.metadata.name for one in found} == asked
    assert len(found) == len(asked)


def test_a_pod_of_few_labels_or_of_many_is_found_among_many_interceptors() -> None:
    known = Interceptors(
        interceptor(
            f"i-{number}", namespaceSelector={}, podSelector={"matchLabels": {"app": str(number), "all": "yes"}}
        )
        for number in range(100)
    )
    few = {"app": "7", "all": "yes"}
    for labels in (few, few | {f"other-{number}": "x" for number in range(200)}):
        assert [one.metadata.name for one in known.selecting({}, labels)] == ["i-7"]
    assert known.selecting({}, {"app": "7"}) == []


def test_an_interceptor_that_comes_or_goes_is_seen_at_once() -> None:
    known = Interceptors([interceptor(namespaceSelector={}, podSelector={})])
    assert len(known.selecting({}, {})) == 1
    known.put(interceptor("second", namespaceSelector={}, podSelector={}))
    assert len(known.selecting({}, {})) == len(known) == 2
    known.remove("second")
    assert len(known.selecting({}, {})) == 1


def test_of_hundreds_only_those_are_asked_that_a_pod_s_labels_call_for() -> None:
    made = [
        interceptor(f"i-{number}", podSelector={"matchLabels": {"tier": "web", "app": f"a-{number}"}})
        for number in range(200)
    ]
    known = Interceptors(made)
    of_pod = {"tier": "web", "app": "a-7"}
    assert [one.metadata.name for one in known.selecting({"kubernetes.io/metadata.name": "payments"}, of_pod)] == [
        "i-7"
    ]
    assert known._sorted is not None
    assert max(map(len, known._sorted.values())) == 1
