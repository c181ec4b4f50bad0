-- What is in the archive?
SELECT label, count(*) AS segments, round(sum(end_s - start_s) / 60, 1) AS minutes
FROM 'tags.parquet' GROUP BY label ORDER BY segments DESC;

-- Where is the model most certain of each label?
SELECT label, arg_max(video, confidence) AS video, arg_max(start_s, confidence) AS start_s, max(confidence) AS confidence
FROM 'tags.parquet' GROUP BY label ORDER BY confidence DESC;

-- One label for each video: the average over its windows.
WITH votes AS (
    SELECT video, unnest(top_labels) AS label, unnest(top_confidences) AS confidence FROM 'tags.parquet'
), scores AS (
    SELECT video, label, sum(confidence) / any_value(segments) AS score
    FROM votes JOIN 'tags.videos.parquet' USING (video) GROUP BY video, label
)
SELECT video, arg_max(label, score) AS label, max(score) AS score FROM scores GROUP BY video ORDER BY video;

-- What could not be read, and why?
SELECT video, status, error_kind, error FROM 'tags.videos.parquet' WHERE status <> 'ok' ORDER BY video;
