"""What the packets of a video tell without decoding: the times of its frames, and where decoding can begin."""
