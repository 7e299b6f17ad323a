//! codec layer.
