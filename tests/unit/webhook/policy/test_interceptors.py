"""Which interceptors select a pod: the sorted answer against asking each one."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.webhook.builders import interceptor
from webhook.policy.interceptors import Interceptors

selectors: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.just({}),
    st.dictionaries(st.sampled_from("ab"), st.sampled_from("xy"), min_size=1).map(lambda made: {"matchLabels": made}),
    st.sampled_from(["Exists", "DoesNotExist"]).map(
        lambda operator: {"matchExpressions": [{"key": "a", "operator": operator}]}
    ),
)
labels = st.dictionaries(st.sampled_from("ab"), st.sampled_from("xyz"))


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
    found = Interceptors(made).selecting("n", namespace, pod)
    assert {one.metadata.name for one in found} == asked
    assert len(found) == len(asked)


def test_a_namespace_whose_labels_change_is_looked_at_anew() -> None:
    known = Interceptors([interceptor(namespaceSelector={"matchLabels": {"team": "a"}}, podSelector={})])
    assert not known.selecting("n", {"team": "b"}, {})
    assert known.selecting("n", {"team": "a"}, {})


def test_an_interceptor_that_comes_or_goes_is_seen_at_once() -> None:
    known = Interceptors([interceptor(namespaceSelector={}, podSelector={})])
    where: dict[str, str] = {}
    assert len(known.selecting("n", where, {})) == 1
    known.put(interceptor("second", namespaceSelector={}, podSelector={}))
    assert len(known.selecting("n", where, {})) == len(known) == 2
    known.remove("second")
    assert len(known.selecting("n", where, {})) == 1


def test_namespaces_without_end_do_not_fill_the_memory() -> None:
    known = Interceptors()
    for number in range(5000):
        known.selecting(f"n-{number}", {}, {})
    assert len(known._sorted) <= 4096
