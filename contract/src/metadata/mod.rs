//! Node metadata (schema 1).
