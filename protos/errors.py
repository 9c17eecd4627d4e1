"""What is wrong with a document, before anyone has asked whether to trust it; or with a broker."""


class DocumentError(Exception):
    """A document can't be read, or its signatures do not hold.

    Attributes:
        code: stable and machine-readable.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


class BrokerError(Exception):
    """The broker does not answer, has refused or has gone."""
