"""Brookbox: a self-contained DICOM node that runs processing streams."""

__version__ = "0.4.0"
