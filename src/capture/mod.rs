//! capture layer.
