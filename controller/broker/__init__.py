"""What a broker is told, so that it lets each party do just what ``protos.mqtt.topics.RULES`` allows.

Texts out of values: nothing here knows a file or a connection.
"""
