-- The ten segments that look most like the one with the highest confidence. DuckDB reads the embeddings as FLOAT[], and
-- its array functions take FLOAT[512]. 512 is their size; some models have fewer values.
WITH vectors AS (
    SELECT video, segment, embedding::FLOAT[512] AS vector FROM 'tags.embeddings.parquet'
), wanted AS (
    SELECT vector FROM 'tags.parquet' JOIN vectors USING (video, segment) ORDER BY confidence DESC, video, segment LIMIT 1
)
SELECT round(array_cosine_similarity(vectors.vector, wanted.vector), 3) AS similarity, label, video, start_s
FROM wanted, vectors JOIN 'tags.parquet' USING (video, segment)
ORDER BY similarity DESC, video, segment LIMIT 10;
