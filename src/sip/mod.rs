//! sip layer.
