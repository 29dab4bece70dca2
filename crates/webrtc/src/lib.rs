//! Per-packet IP options under webrtc-rs peer connections.
#![forbid(unsafe_code)]
