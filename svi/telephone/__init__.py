"""A telephone in the browser, served by `svi up` alone: it calls this machine's Asterisk."""
