//! Types both sides agree on.
