"""The pages and the API: what radiology staff look at in a browser."""
