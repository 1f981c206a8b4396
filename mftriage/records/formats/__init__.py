"""One file a record format: a new one is found by being here.

Each module has ``MARKERS``, one of which every line of its records holds, and ``decode``, which
makes records of such lines.  A name with a dash instead of the underscore is the format's id; its
lines and the right answers are in tests/records/data, its row in docs/records.md.
"""
