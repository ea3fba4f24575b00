"""The native path: one module a kind, plus what kinds of one provider share."""
