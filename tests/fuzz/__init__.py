"""Fuzz targets: what may be sent, changed at random where the code's branches say it matters."""
