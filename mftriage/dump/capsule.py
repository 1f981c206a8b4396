"""stub"""
from typing import NamedTuple
class Sidecar(NamedTuple):
    is_capsule: bool = False
def read_sidecar(notes): return Sidecar()
