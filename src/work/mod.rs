//! work layer.
