//! Measures the path of a WebRTC session from inside.

#![forbid(unsafe_code)]

fn main() {}
