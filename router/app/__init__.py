"""The composition root: the one place that names adapters, opens connections and starts loops.

`parts` puts a desk or a worker together, `serve` runs them. Import them by name: a command needs no web server.
"""
