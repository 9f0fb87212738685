"""From the bytes of an AdmissionReview to the bytes that answer it. No I/O here, and no exception but BadReview."""
