"""Files on local disks and in buckets: addresses, file systems, atomic writes, local copies."""
