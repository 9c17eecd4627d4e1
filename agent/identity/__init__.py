"""Who this device is: its key, its certificate, and their renewal."""
