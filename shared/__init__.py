"""The credential store that the voice server, the SMS gateway and the web stack share."""
