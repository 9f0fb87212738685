"""The contract that every part shares: names, SecretInterceptor types, registration. No I/O here."""
