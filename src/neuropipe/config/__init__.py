"""The study's configuration: models, loading, recordings table, schema and template."""
