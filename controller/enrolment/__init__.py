"""How a machine becomes a device: join tokens, certificates, renewal, revocation."""
