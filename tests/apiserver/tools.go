//go:build tools

// Package tools names the programs of Kubernetes that these tests run, so that go.mod and go.sum hold what they are
// built from: see scripts/test-parts.sh.
package tools

import (
	_ "k8s.io/kubernetes/cmd/kube-apiserver"
	_ "k8s.io/kubernetes/cmd/kube-scheduler"
	_ "k8s.io/kubernetes/cmd/kubectl"
)
