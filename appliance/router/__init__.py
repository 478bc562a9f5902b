"""The router: sends what ended jobs made to where routing.yaml says.

`service` is the process; `routes` makes deliveries, `sending` makes them arrive.
"""
