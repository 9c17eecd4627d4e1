"""The REST API's routes, a file a feature; each is one transaction of one action."""
