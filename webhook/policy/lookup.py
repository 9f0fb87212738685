"""Which interceptor a pod is given: the namespace lets it opt in, and one is named or alone selects it. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from kernelsecret.interceptor import SecretInterceptor
from kernelsecret.names import ANNOTATION_INJECT, ANNOTATION_INJECT_ANY, LABEL_INJECT, LABEL_INJECT_ENABLED
from kernelsecret.problems import quoted
from webhook.policy.pods import Pod
from webhook.policy.steps import ALL, Doubt, Refusal, Rule
from webhook.policy.view import View

FIELD_INJECT = f"metadata.annotations[{ANNOTATION_INJECT}]"
FIELD_NAMESPACE = f"namespace.metadata.labels[{LABEL_INJECT}]"


def opted_in_labels(namespace: str, view: View) -> Mapping[str, str]:
    """The labels of a namespace that lets its pods opt in. Raises Refusal for any other."""
    labels = view.namespace_labels(namespace)
    label = None if labels is None else labels.get(LABEL_INJECT)
    if labels is not None and label == LABEL_INJECT_ENABLED:
        return labels
    if labels is None:
        why = f"the namespace {quoted(namespace)} is not known"
    else:
        why = f"{'missing' if label is None else quoted(label)}, must be '{LABEL_INJECT_ENABLED}'"
    label_it = f"kubectl label namespace {namespace or 'NAMESPACE'} {LABEL_INJECT}={LABEL_INJECT_ENABLED}"
    fix = f"{label_it}, or remove the pod's annotation {ANNOTATION_INJECT}"
    raise Refusal(Rule.NAMESPACE, FIELD_NAMESPACE, why, fix, doubt=Doubt(namespace=namespace))


def lookup_interceptor(
    pod: Pod, namespace: str, labels: Mapping[str, str], view: View
) -> tuple[SecretInterceptor, str]:
    """The interceptor that a pod is given, and why that one. Raises Refusal where it is none, or not clear."""
    wanted = pod.annotations[ANNOTATION_INJECT]
    if wanted != ANNOTATION_INJECT_ANY:
        named = named_interceptor(wanted, pod, namespace, labels, view)
        return named, f"the interceptor {quoted(wanted)}, which the pod names"
    found = view.interceptors.selecting(labels, pod.labels)
    if len(found) == 1:
        return found[0], f"{quoted(found[0].metadata.name)} is the only interceptor that selects the pod"
    doubt = Doubt(namespace=namespace, interceptor=ALL)
    if not found:
        why = f"no interceptor selects the pod in the namespace {quoted(namespace)}"
        fix = "ask a cluster admin for a SecretInterceptor whose namespaceSelector and podSelector do"
        raise Refusal(Rule.INTERCEPTOR, FIELD_INJECT, why, fix, doubt=doubt)
    names = ", ".join(sorted(one.metadata.name for one in found)[:8])
    why = f"{len(found)} interceptors select the pod: {names}"
    raise Refusal(Rule.INTERCEPTOR, FIELD_INJECT, why, "write the name of one of them instead of 'true'", doubt=doubt)


def named_interceptor(name: str, pod: Pod, namespace: str, labels: Mapping[str, str], view: View) -> SecretInterceptor:
    """The interceptor of that name. Raises Refusal unless it is valid, stays, and selects namespace and pod."""
    found = view.interceptors.get(name)
    doubt = Doubt(namespace=namespace, interceptor=name)
    if found is None:
        why = f"there is no valid interceptor {quoted(name)}"
        fix = "look at `kubectl get secretinterceptors`, and at the conditions of that one"
        raise Refusal(Rule.INTERCEPTOR, FIELD_INJECT, why, fix, doubt=doubt)
    if found.metadata.deletion_timestamp:
        why = f"the interceptor {quoted(name)} is being deleted"
        raise Refusal(Rule.INTERCEPTOR, FIELD_INJECT, why, "use another one", doubt=doubt)
    at = f"interceptor {quoted(name)}"
    if not found.spec.namespace_selector.matches(labels):
        why = f"does not select the namespace {quoted(namespace)}"
        fix = "use an interceptor that is meant for it; a cluster admin can change who is selected"
        raise Refusal(Rule.INTERCEPTOR, f"{at}: spec.namespaceSelector", why, fix, doubt=doubt)
    if not found.spec.pod_selector.matches(pod.labels):
        why = f"does not select the pod {quoted(pod.display_name)} by its labels"
        fix = "give the pod the labels that the interceptor selects"
        raise Refusal(Rule.INTERCEPTOR, f"{at}: spec.podSelector", why, fix, doubt=doubt)
    return found
