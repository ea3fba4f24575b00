"""The edges: each module speaks one outside protocol and implements the ports of `router.domain.ports`.

Only `router.app` and `router.cli` name an adapter; everything else is handed one.
"""
