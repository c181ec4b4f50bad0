"""The readers of video: PyAV, decord, NVDEC, and one that skips frames. They share one interface."""
