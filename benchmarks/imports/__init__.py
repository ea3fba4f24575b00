"""The import measured: against its two limits (decoding alone, COPY alone), the usual build, and other people's tools.

`python -m benchmarks imports`; what each arm is: docs/explanation/performance.md.
"""
