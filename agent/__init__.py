"""The light daemon on each device: verifies, tests, serves and watches its models, and reports."""
