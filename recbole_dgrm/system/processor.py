"""What the system tells about the processor."""

from pathlib import Path

UNITS = ("avx512_bf16", "amx_bf16", "bf16")  # for products of bfloat16 matrices, of Intel and AMD, and of ARM


def cpuinfo() -> list[str]:
    """Lines about the processor; none where the system has no such file."""
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def bfloat16_units() -> list[str]:
    """The units for products of bfloat16 matrices that the processor has, as far as the system tells."""
    flags = {word for line in cpuinfo() if line.startswith(("flags", "Features")) for word in line.split()}
    return [name for name in UNITS if name in flags]
