"""Letters: what goes by post, in runs that a printer picks up (R09, R25)."""
