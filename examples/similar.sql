-- The ten segments that look most like the one with the highest confidence.
WITH vectors AS (
    SELECT video, segment, embedding FROM 'tags.embeddings.parquet'
), wanted AS (
    SELECT embedding FROM 'tags.parquet' JOIN vectors USING (video, segment) ORDER BY confidence DESC, video, segment LIMIT 1
)
SELECT round(list_cosine_similarity(vectors.embedding, wanted.embedding), 3) AS similarity, label, video, start_s
FROM wanted, vectors JOIN 'tags.parquet' USING (video, segment)
ORDER BY similarity DESC, video, segment LIMIT 10;
