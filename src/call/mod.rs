//! call layer.

pub mod summary;
