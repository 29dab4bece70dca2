//! The network lab.
#![forbid(unsafe_code)]
