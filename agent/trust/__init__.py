"""What this device believes: image metadata, directives, floors and recalls."""
