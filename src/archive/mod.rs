//! archive layer.
