"""Conformance: traces of the real BEAM, replayed on the real runtime through its public API."""
