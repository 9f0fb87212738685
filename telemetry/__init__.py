"""What every daemon tells its operators: the log and the audit trail, which never say a secret. No decision here."""
