"""Mode `preload` on the node: which programs of a pod the shim does not reach, and telling it."""
