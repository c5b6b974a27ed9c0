"""The credential store's HTTP API, for the web stack: the only part of the store with asyncio."""
