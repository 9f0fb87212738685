"""The webhook's two ports: TLS that is renewed live, requests that are bounded, answers that are never a 500."""
