"""What people and programs may do, once, for HTTP, the command line and the console: plain functions over a Desk.

Whatever cannot be done raises router.domain.errors.Rejected: a stable code, words for a person, an HTTP status.
"""
