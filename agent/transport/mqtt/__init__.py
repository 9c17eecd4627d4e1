"""Links to controllers through an MQTT broker."""
