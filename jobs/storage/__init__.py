"""Files on local disks and in buckets: addresses, file systems, whole or absent files, local copies."""
