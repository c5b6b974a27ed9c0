"""Ways out for messages; each is a `sms.provider.Provider`."""
