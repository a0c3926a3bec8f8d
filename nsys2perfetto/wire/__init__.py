"""The vectorised protobuf encoder: columns in, bytes out. Knows neither nsys nor GPUs.

Perfetto's format is a plain sequence of length-delimited `TracePacket` messages. A Python protobuf
object costs about 10 us an event; stamping copies the serialised bytes of one template packet per
configuration and patches the fields that differ, for a whole chunk of events at once.
"""
