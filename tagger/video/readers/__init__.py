"""The readers of video: PyAV, decord, NVDEC, and one that skips frames. All have one interface."""
