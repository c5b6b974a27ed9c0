"""The voice server: what an allocataire hears and keys on the telephone."""
