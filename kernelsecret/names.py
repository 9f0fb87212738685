"""Every name that parts of the product or users meet on the wire. A comment each; parsing is elsewhere."""

from __future__ import annotations

from typing import Final

GROUP: Final = "kernelsecret.io"
API_VERSION: Final = f"{GROUP}/v1alpha1"

# The CSI driver: `spec.volumes[].csi.driver` of a pod, and the name that kubelet registers.
DRIVER_NAME: Final = f"csi.{GROUP}"

# CSI volume attribute: the SecretInterceptor that the volume is served by. The only one that the driver takes.
ATTRIBUTE_INTERCEPTOR: Final = f"{GROUP}/interceptor"

# Namespace label: pods of this namespace may opt in.
LABEL_INJECT: Final = f"{GROUP}/inject"
# Its only value that counts.
LABEL_INJECT_ENABLED: Final = "enabled"

# Pod annotation: "true" (the one interceptor that selects the pod) or the name of an interceptor.
ANNOTATION_INJECT: Final = f"{GROUP}/inject"
# Its value that names no interceptor.
ANNOTATION_INJECT_ANY: Final = "true"
# Its value that opts out, as if the annotation were missing.
ANNOTATION_INJECT_OFF: Final = "false"

# Pod annotation: the mode that the pod asks for; "auto" lets admission choose.
ANNOTATION_MODE: Final = f"{GROUP}/mode"
ANNOTATION_MODE_AUTO: Final = "auto"

# Pod annotation, written by admission: the interceptor that was chosen.
ANNOTATION_INTERCEPTOR: Final = f"{GROUP}/interceptor"

# Pod annotation, honoured only where pods are read from files that root owns: the host's pid of the pod's first task.
ANNOTATION_FIRST_PID: Final = f"{GROUP}/first-pid"

# Node label: how this node serves volumes (`iter`, `rewrite`, `tmpfs`).
LABEL_ENGINE: Final = f"{GROUP}/engine"

KIND_INTERCEPTOR: Final = "SecretInterceptor"
KIND_REGISTRATION: Final = "Registration"
