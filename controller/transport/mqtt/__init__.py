"""The controller's end of links through an MQTT broker."""
