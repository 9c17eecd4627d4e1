"""Which device shall run what: plan, reasons, directives."""
