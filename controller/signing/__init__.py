"""TUF on the publishing side: roles, metadata, directives, re-signing."""
