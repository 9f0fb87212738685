"""The CSI door: what kubelet asks is validated here and handed to a Publisher. gRPC is known in this room only."""
