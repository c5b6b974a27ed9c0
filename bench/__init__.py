"""How fast the service is, beside its peers in the same run: `make bench`."""
