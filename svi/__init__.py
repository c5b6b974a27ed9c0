"""The svi command: the only code that knows the voice server, the gateway and the store."""
