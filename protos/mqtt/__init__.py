"""What goes over an MQTT broker: topics, sealed messages, and the connection both sides use."""
