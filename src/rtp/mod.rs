//! rtp layer.
