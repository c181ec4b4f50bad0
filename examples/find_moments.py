"""Prints the times of one video in which an action is likely: python find_moments.py VIDEO LABEL [CONFIDENCE]."""

import sys

import tagger


def main() -> None:
    """Tags the video with half-overlapping windows and merges neighbouring segments into moments."""
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    path, label = sys.argv[1:3]
    threshold = float(sys.argv[3]) if len(sys.argv) == 4 else 0.5
    model = tagger.load_model()
    if label not in model.labels:
        sys.exit(f"the model does not know {label!r}; it knows {', '.join(model.labels)}")
    moments: list[list[float]] = []
    for segment in model.tag(path, hop_s=model.sampling.window_s / 2):
        confidence = dict(zip(segment.top_labels, segment.top_confidences, strict=True)).get(label, 0.0)
        if confidence < threshold:
            continue
        if moments and segment.start_s <= moments[-1][1]:
            moments[-1][1] = segment.end_s
        else:
            moments.append([segment.start_s, segment.end_s])
    for start_s, end_s in moments:
        print(f"{start_s:8.2f} s to {end_s:8.2f} s")
    if not moments:
        print(f"{path} has no {label} with a confidence of {threshold} or more")


if __name__ == "__main__":
    main()
