"""The same pipeline past one machine's memory: segments set aside by connection, then followed part by part.

Detectors and exports take connections in any order, so that only here is there anything to put together again.
"""
