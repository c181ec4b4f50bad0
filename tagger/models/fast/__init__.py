"""What makes a network faster without changing what it computes.

``fused`` makes the network that a classifier uses of the one that was trained. ``flat`` computes 3D layers by 2D
kernels on a GPU, and ``pool_kernel`` is a max pool for GPUs. ``operators`` are those of PyTorch that are not
documented, and ``probe`` tries each of them before it is used, with the plain layers as the fall-back. PyTorch's
private names are used in this folder only.
"""
