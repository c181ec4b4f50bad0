"""What makes a network faster without changing what it computes.

``fused`` makes the network that a classifier uses of the one that was trained, ``flat`` computes 3D layers by 2D
kernels on a GPU, and ``pool_kernel`` is a max pool for GPUs.
"""
