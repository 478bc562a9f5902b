"""Figures of the node for Prometheus."""
