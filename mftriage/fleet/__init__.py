"""The fleet: a folder of results as one table, its groupings and its dashboard.

Importing this costs nothing: pandas and pyarrow are loaded by what uses them.
"""
