"""The SMS gateway: brings the messages of the outbox to a provider."""
