"""What the webhook tells its operators beside the log: metrics and the audit trail. No decision here."""
